"""A curve of scores against epsilon, drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from skdp.model_selection.privacy_utility import PrivacyUtilityCurve, privacy_utility_curve

__all__ = ["PrivacyUtilityDisplay"]

_PRIOR, _NON_PRIVATE = "prior", "without privacy"


class PrivacyUtilityDisplay:
    """Scores against epsilon: median over seeds and a band, on a logarithmic axis.

    Use `from_estimator`, `from_curve` or `from_frame` to make one. Pass one display's ``ax_`` as ``ax`` to draw another
    into it.

    Parameters
    ----------
    epsilons : ndarray of shape (n_epsilons,)
    scores : ndarray of shape (n_epsilons, n_seeds)
    metric : str
        What the scores are.
    name : str, optional
        Label of the line.
    prior : float, optional
        Score of the best constant.
    non_private : float, optional
        Score without privacy.

    Attributes
    ----------
    line_ : matplotlib Artist
        The medians.
    band_ : matplotlib Artist
        From the lower to the upper quantile.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import matplotlib
    >>> matplotlib.use("Agg")
    >>> from skdp.model_selection import PrivacyUtilityDisplay
    >>> display = PrivacyUtilityDisplay(
    ...     epsilons=np.array([0.1, 1.0]), scores=np.array([[0.5, 0.75], [0.8, 0.8]]), metric="accuracy", prior=0.5
    ... ).plot()
    >>> display.ax_.get_xscale(), display.line_.get_ydata().tolist()
    ('log', [0.625, 0.8])
    """

    def __init__(self, *, epsilons: np.ndarray, scores: np.ndarray, metric: str, name: str | None = None,
                 prior: float | None = None, non_private: float | None = None) -> None:  # fmt: skip
        self.epsilons = epsilons
        self.scores = scores
        self.metric = metric
        self.name = name
        self.prior = prior
        self.non_private = non_private

    def plot(self, ax: Any = None, *, name: str | None = None, level: float = 0.8, references: bool = True,
             **kwargs: Any) -> PrivacyUtilityDisplay:  # fmt: skip
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            New ones when None.
        name : str, optional
            Label of the line.
        level : float, default=0.8
            Share of the seeds within the band.
        references : bool, default=True
            Whether to draw the prior and the score without privacy, where they are known.
        **kwargs
            For the line, as in ``Axes.plot``.

        Returns
        -------
        self
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        self.ax_, self.figure_ = ax, ax.figure
        style = {"marker": "o", "markersize": 4, "label": self.name if name is None else name} | kwargs
        (self.line_,) = ax.plot(self.epsilons, np.median(self.scores, axis=1), **style)
        low, high = np.quantile(self.scores, [(1 - level) / 2, (1 + level) / 2], axis=1)
        colour = self.line_.get_color()
        self.band_ = ax.fill_between(self.epsilons, low, high, color=colour, alpha=0.2, linewidth=0)
        if references:
            # One grey line for a prior that several curves share; what a model reaches without privacy is its own.
            if self.prior is not None and _PRIOR not in ax.get_legend_handles_labels()[1]:
                ax.axhline(self.prior, color="0.5", linestyle=":", label=_PRIOR)
            if self.non_private is not None:
                label = f"{style['label']}, {_NON_PRIVATE}" if style["label"] else _NON_PRIVATE
                ax.axhline(self.non_private, color=colour, linestyle="--", linewidth=1, label=label)
        ax.set(xscale="log", xlabel="epsilon", ylabel=self.metric)
        curves = [line for line in ax.lines if line.get_transform() == ax.transData]  # reference lines have no epsilon
        ticks = sorted({float(epsilon) for line in curves for epsilon in line.get_xdata()})
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        if ax.get_legend_handles_labels()[1]:
            ax.legend()
        return self

    @classmethod
    def from_curve(cls, curve: PrivacyUtilityCurve, *, metric: str | None = None, name: str | None = None,
                   ax: Any = None, **kwargs: Any) -> PrivacyUtilityDisplay:  # fmt: skip
        """Draw what `privacy_utility_curve` found.

        Parameters
        ----------
        curve : PrivacyUtilityCurve
        metric : str, optional
            The first one when None.
        name : str, optional
            Label of the line; the estimator's class when None.
        ax : matplotlib Axes, optional
        **kwargs
            For `plot`.

        Returns
        -------
        PrivacyUtilityDisplay
        """
        return cls.from_frame(curve.to_frame(), metric=metric, name=name or curve.estimator, ax=ax, **kwargs)

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, *, metric: str | None = None, name: str | None = None, ax: Any = None,
                   **kwargs: Any) -> PrivacyUtilityDisplay:  # fmt: skip
        """Draw a table of scores, as `PrivacyUtilityCurve.to_frame` gives.

        Parameters
        ----------
        frame : DataFrame
            Columns ``epsilon``, ``seed``, ``metric``, ``score``, and ``prior`` where that is to be drawn.
        metric : str, optional
            The first one when None.
        name : str, optional
        ax : matplotlib Axes, optional
        **kwargs
            For `plot`.

        Returns
        -------
        PrivacyUtilityDisplay
        """
        known = list(dict.fromkeys(frame["metric"]))
        metric = known[0] if metric is None else metric
        if metric not in known:
            raise ValueError(f"metric={metric!r} must be one of {', '.join(known)}")
        mine = frame[frame["metric"] == metric]
        table = mine.pivot(index="epsilon", columns="seed", values="score").sort_index()
        finite = np.isfinite(table.index)
        return cls(
            epsilons=table.index[finite].to_numpy(float),
            scores=table[finite].to_numpy(float),
            metric=metric,
            name=name,
            prior=float(mine["prior"].iloc[0]) if "prior" in mine else None,
            non_private=None if finite.all() else float(np.median(table[~finite])),
        ).plot(ax, **kwargs)

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, epsilons: Any, X_test: Any = None, y_test: Any = None,
                       cv: Any = None, scoring: Any = None, n_seeds: int = 3, data_are_public: bool = False,
                       name: str | None = None, ax: Any = None, **kwargs: Any) -> PrivacyUtilityDisplay:  # fmt: skip
        """Sweep and draw; `privacy_utility_curve` says what that costs. The curve is kept as ``curve_``.

        Parameters
        ----------
        estimator : object
            As for `privacy_utility_curve`, like all that follows up to `name`.
        X, y : array-like or table
        epsilons : iterable of float
        X_test, y_test : array-like, optional
        cv : int or splitter or iterable, optional
        scoring : str, callable, list or dict, default=None
        n_seeds : int, default=3
        data_are_public : bool, default=False
        name : str, optional
        ax : matplotlib Axes, optional
        **kwargs
            For `plot`.

        Returns
        -------
        PrivacyUtilityDisplay
        """
        curve = privacy_utility_curve(
            estimator, X, y, epsilons=epsilons, X_test=X_test, y_test=y_test, cv=cv, scoring=scoring, n_seeds=n_seeds,
            data_are_public=data_are_public,
        )  # fmt: skip
        display = cls.from_curve(curve, name=name, ax=ax, **kwargs)
        display.curve_ = curve
        return display
