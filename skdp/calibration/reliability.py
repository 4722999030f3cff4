"""Reliability diagrams: what was predicted against what came out."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

from skdp.metrics.binning import BinnedCurve, check_bins
from skdp.metrics.calibration_errors import classwise_curves, top_label_curve
from skdp.metrics.probabilities import read_predictions

__all__ = ["ReliabilityDisplay"]

_KINDS = ("top-label", "class-wise")
_BELOW = "how many"  # label of the histogram's axes, by which the next display finds it
_IDEAL = "perfectly calibrated"


class ReliabilityDisplay:
    """Reliability diagram with a histogram of the predictions below.

    Make it with `from_estimator` or `from_predictions`, or of released curves
    (``ReliabilityDisplay([report.curve_])``). Below the diagonal a model is over-confident.

    Parameters
    ----------
    curves : list of BinnedCurve
        One line each.
    names : list of str, optional
        One per line, for the legend.
    kind : {"top-label", "class-wise"}, default="top-label"
        Names the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Of the diagram. Pass it as ``ax=`` to the next display to compare models in one figure.
    histogram_ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Artist

    See Also
    --------
    sklearn.calibration.CalibrationDisplay : Two classes, one line, no histogram.

    Examples
    --------
    >>> import numpy as np
    >>> from skdp.calibration import ReliabilityDisplay
    >>> from skdp.metrics.binning import BinnedCurve
    >>> curve = BinnedCurve.of(np.array([0.6, 0.9]), np.array([0, 1]), np.ones(2), n_bins=5, strategy="uniform")
    >>> ReliabilityDisplay([curve], ["model"]).names
    ['model']
    """

    def __init__(self, curves: list[BinnedCurve], names: list[str] | None = None, *, kind: str = "top-label"):
        if kind not in _KINDS:
            raise ValueError(f"kind={kind!r} must be one of {', '.join(_KINDS)}")
        self.curves = curves
        self.names = names
        self.kind = kind

    @classmethod
    def from_estimator(cls, estimator: Any, X: Any, y: Any, *, name: str | None = None, **options: Any):
        """The diagram of a fitted classifier.

        Parameters
        ----------
        estimator : fitted classifier with ``predict_proba``
        X : array-like of shape (n_samples, ...)
            Public or test rows: the diagram is exact.
        y : array-like of shape (n_samples,)
        name : str, optional
            The class's name when None.
        **options : dict
            As in `from_predictions`.

        Returns
        -------
        ReliabilityDisplay
        """
        name = type(estimator).__name__ if name is None else name
        return cls.from_predictions(y, estimator.predict_proba(X), labels=estimator.classes_, name=name, **options)

    @classmethod
    def from_predictions(
        cls, y_true: Any, y_proba: Any, *, n_bins: int = 10, strategy: str = "uniform", kind: str = "top-label",
        labels: Any = None, classes: Any = None, sample_weight: Any = None, name: str | None = None, ax: Any = None,
        **line: Any,
    ):  # fmt: skip
        """The diagram of predicted probabilities.

        Parameters
        ----------
        y_true : array-like of shape (n_samples,)
        y_proba : array-like of shape (n_samples,) or (n_samples, n_classes)
        n_bins : int, default=10
        strategy : {"uniform", "quantile"}, default="uniform"
            Bins of equal width or of equally many rows.
        kind : {"top-label", "class-wise"}, default="top-label"
            One line for the predicted class's probability, or one for each class's.
        labels : array-like, optional
            All labels, where `y_true` may lack one.
        classes : array-like, optional
            Labels whose lines are drawn, where ``kind="class-wise"``; all when None.
        sample_weight : array-like of shape (n_samples,), optional
        name : str, optional
            For the legend.
        ax : matplotlib Axes, optional
            Axes to draw into, such as another display's `ax_`.
        **line : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        ReliabilityDisplay
        """
        n_bins = check_bins(n_bins, strategy)
        found = read_predictions(y_true, y_proba, labels, sample_weight)
        if kind == "class-wise":
            known = found.classes.tolist()
            shown = known if classes is None else list(classes)
            if not set(shown) <= set(known):
                raise ValueError(f"classes={classes!r} must be among {known}")
            curves = classwise_curves(found, n_bins, strategy, [known.index(label) for label in shown])
            names = [f"{label}" if name is None else f"{name}, {label}" for label in shown]
        else:
            curves, names = [top_label_curve(found, n_bins, strategy)], None if name is None else [name]
        return cls(curves, names, kind=kind).plot(ax=ax, **line)

    def plot(self, *, ax: Any = None, ref_line: bool = True, **line: Any) -> ReliabilityDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            A new figure when None.
        ref_line : bool, default=True
            Whether to draw the diagonal.
        **line : dict
            Passed on to ``Axes.plot``.

        Returns
        -------
        ReliabilityDisplay
            Itself.
        """
        check_matplotlib_support("ReliabilityDisplay.plot")
        import matplotlib.pyplot as plt

        if ax is None:
            _, (ax, below) = plt.subplots(
                2, 1, sharex=True, height_ratios=(3.5, 1), figsize=(5, 6), layout="constrained"
            )
            below.set_label(_BELOW)
        self.ax_, self.figure_ = ax, ax.figure
        self.histogram_ax_ = _histogram_below(ax)
        if ref_line and _IDEAL not in ax.get_legend_handles_labels()[1]:
            ax.plot([0, 1], [0, 1], ":", color="black", linewidth=1, label=_IDEAL)
        names = self.names or [None] * len(self.curves)
        self.lines_ = [self._draw(curve, name, line) for curve, name in zip(self.curves, names, strict=True)]
        label, what = ("confidence", "accuracy") if self.kind == "top-label" else ("probability", "frequency")
        ax.set(ylabel=what, xlim=(0, 1), ylim=(0, 1))
        ax.tick_params(labelbottom=False)
        self.histogram_ax_.set(xlabel=label)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(loc="upper left", frameon=False)
        return self

    def _draw(self, curve: BinnedCurve, name: str | None, line: dict[str, Any]) -> Any:
        # Released weights may be negative, or noise alone.
        full = curve.weight > 0
        mean = curve.predicted[full] / curve.weight[full]
        frequency = np.clip(curve.came_out[full] / curve.weight[full], 0, 1)
        (drawn,) = self.ax_.plot(
            np.clip(mean, 0, 1), frequency, **{"marker": "o", "markersize": 4, "label": name} | line
        )
        share, width = np.maximum(curve.weight, 0), np.diff(curve.edges)
        share = share / max(share.sum(), 1e-300)
        # Bins of equally many rows would show a flat line.
        even = np.allclose(width, width[0])
        height = share if even else share / np.maximum(width, 1e-3)
        self.histogram_ax_.stairs(height, curve.edges, color=drawn.get_color(), linewidth=1.4)
        self.histogram_ax_.set_ylabel("share" if even else "density")
        return drawn


def _histogram_below(ax: Any) -> Any:
    """The axes below the diagram: those of an earlier display, or new ones."""
    for child in (*ax.child_axes, *ax.figure.axes):
        if child.get_label() == _BELOW and ax.get_shared_x_axes().joined(ax, child):
            return child
    return ax.inset_axes([0, -0.33, 1, 0.27], sharex=ax, label=_BELOW)
