"""The plan of a fit: what it costs and what it can hope for, as numbers, text and HTML."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from skdp.accounting import attack_accuracy
from skdp.neural_network.prospects import VERDICTS

__all__ = ["FitPlan", "PlannedRelease"]

_WIDTH = 100
_MEANINGS = {
    "prior": "noise hides what the columns say: expect about the base rates or the mean, or worse",
    "linear": "main effects can be learnt where they are clear; where labels are nearly noise, it takes ten times more",
    "nonlinear": "bends and thresholds of single columns can be learnt on top of main effects",
}


@dataclass(frozen=True)
class PlannedRelease:
    """One line of the price list of a planned fit.

    Parameters
    ----------
    name : str
    noise_multiplier : float or None
        Standard deviation over zero-out sensitivity of one query; None where the noise is no Gaussian.
    sampling_rate : float or None
    count : int
        How many queries.
    share : float or None
        Of the squared signal of everything that is released.

    Examples
    --------
    >>> PlannedRelease("gradient", 40.0, 1.0, 110, 1.0).count
    110
    """

    name: str
    noise_multiplier: float | None
    sampling_rate: float | None
    count: int
    share: float | None


@dataclass(frozen=True)
class FitPlan:
    """What `skdp.plan` found; printing it tells all of it in words.

    Parameters
    ----------
    estimator : str
        What is planned.
    n : int
        Number of rows.
    input_shape : tuple of int
        Shape of one record.
    task : {"binary", "multiclass", "regression"}
    epsilon, delta : float
        The budget.
    adjacency : {"zero-out", "replace-one", "add-remove"}
    unit : str
        What one neighbour differs in.
    other_adjacencies : dict of str to float or None
        What the same noise costs at the same delta under each adjacency; None where nothing is known.
    noise_multiplier : float or None
        Of one training step; None where the noise is no Gaussian.
    sampling_rate : float or None
        Chance of a row to take part in a step.
    steps : int
    mean_trials : float or None
        Expected number of trials of a search; `releases` are then those of one trial.
    releases : tuple of PlannedRelease
    verdict : {"prior", "linear", "nonlinear"} or None
        "prior": no better than the prior. "linear": linear signal. "nonlinear": nonlinear detail. None where there is
        no private model in it.
    signal : float or None
        Gaussian-DP parameter of what the model spends, times the number of rows.
    signal_needed : float or None
        Below it the verdict is "prior".
    next_verdict : str or None
        The next better verdict.
    next_rows : float or None
        Roughly the rows that it needs at this budget.
    next_epsilon : float or None
        Roughly the epsilon that it needs with these rows; None where no reasonable one would do.
    notes : tuple of str
        What else to know.

    Examples
    --------
    >>> import skdp
    >>> found = skdp.plan(n=5000, n_features=20, epsilon=1.0)
    >>> print(str(found).splitlines()[0])
    Plan: DPClassifier, 5,000 rows of 20 columns, binary
    >>> round(found.estimates_share, 2), round(found.attack_accuracy, 2)
    (0.04, 0.73)
    """

    estimator: str
    n: int
    input_shape: tuple[int, ...]
    task: str
    epsilon: float
    delta: float
    adjacency: str
    unit: str
    other_adjacencies: dict[str, float | None]
    noise_multiplier: float | None
    sampling_rate: float | None
    steps: int
    mean_trials: float | None
    releases: tuple[PlannedRelease, ...]
    verdict: str | None
    signal: float | None
    signal_needed: float | None
    next_verdict: str | None
    next_rows: float | None
    next_epsilon: float | None
    notes: tuple[str, ...] = ()

    @property
    def attack_accuracy(self) -> float:
        """Best share of right guesses about one row that the budget leaves possible; 0.5 is a coin flip."""
        return attack_accuracy(self.epsilon, self.delta)

    @property
    def estimates_share(self) -> float:
        """Share of the squared signal that private bounds and class counts take."""
        names = ("feature bounds", "target bounds", "class counts")
        return math.fsum(r.share or 0.0 for r in self.releases if any(name in r.name for name in names))

    def to_dict(self) -> dict[str, Any]:
        """All numbers in plain JSON types.

        Returns
        -------
        dict
        """
        plain = asdict(self) | {"attack_accuracy": self.attack_accuracy, "estimates_share": self.estimates_share}
        plain["input_shape"], plain["notes"] = list(self.input_shape), list(self.notes)
        plain["releases"] = [asdict(release) for release in self.releases]
        return plain

    def __str__(self) -> str:
        wide = max(len(name) for name, _ in self._figures())
        lines = [self._headline(), "", *textwrap.wrap(self._verdict(), _WIDTH), ""]
        for name, value in self._figures():
            lines += textwrap.wrap(f"{name:<{wide}}  {value}", _WIDTH, subsequent_indent=" " * (wide + 2))
        for note in self.notes:
            lines += textwrap.wrap(f"Note: {note}.", _WIDTH)
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>'
            f'<td style="text-align:left">{escape(value)}</td></tr>'
            for name, value in self._figures()
        )
        notes = "".join(f"<p>Note: {escape(note)}.</p>" for note in self.notes)
        return (
            '<div style="max-width:56em;font-family:sans-serif">'
            f"<p><b>{escape(self._headline())}</b></p><p>{escape(self._verdict())}</p><table>{rows}</table>{notes}</div>"
        )

    # ------------------------------------------------------------------ words
    def _headline(self) -> str:
        columns = " x ".join(map(str, self.input_shape))
        rows = "declared rows" if self.adjacency == "add-remove" else "rows"
        return f"Plan: {self.estimator}, {self.n:,} {rows} of {columns} columns, {self.task}"

    def _verdict(self) -> str:
        if self.verdict is None:
            return "Verdict: none."
        text = f"Verdict: {VERDICTS[self.verdict]}: {_MEANINGS[self.verdict]}."
        if self.next_verdict is None:
            return text
        more = f"{text} For {VERDICTS[self.next_verdict]}: about {_rounded(self.next_rows):,} rows at this budget"
        if self.next_epsilon is None:
            return f"{more}; no sensible epsilon is enough with these rows."
        return f"{more}, or epsilon of about {self.next_epsilon:.2g} with these rows."

    def _figures(self) -> list[tuple[str, str]]:
        """Names and values of the table."""
        elsewhere = [
            f"{value:.3g} under {name}" if value is not None else f"unknown under {name}"
            for name, value in self.other_adjacencies.items()
            if name != self.adjacency
        ]
        noise = "no Gaussian" if self.noise_multiplier is None else f"{self.noise_multiplier:.4g}"
        found = [
            ("epsilon", f"{self.epsilon:.4g} at delta = {self.delta:g}, per {self.unit}, {self.adjacency}"),
            ("the same noise is", "epsilon " + ", ".join(elsewhere)),
            (
                "best attacker",
                f"right about a {self.unit} in at most {100 * self.attack_accuracy:.3g} % of fair guesses, knowing all "
                "others (50 % is a coin flip)",
            ),
            ("noise multiplier", noise),
            ("steps", f"{self.steps} at sampling rate {self.sampling_rate:.3g}"),
        ]
        if self.mean_trials is not None:
            found.append(("trials", f"{self.mean_trials:g} on average; the noise is that of one trial"))
        if self.estimates_share:
            found.append(
                ("private bounds", f"take {100 * self.estimates_share:.2g} % of the squared signal; public ones, none")
            )
        others = [r for r in self.releases if ": " in r.name]
        if others:
            steps: dict[str, float] = {}
            for release in others:
                step = release.name.split(": ")[0]
                steps[step] = steps.get(step, 0.0) + (release.share or 0.0)
            found.append(("shares", ", ".join(f"{name} {100 * share:.2g} %" for name, share in steps.items())))
        if self.signal is not None:
            found.append(
                ("signal", f"{self.signal:.3g}; {self.signal_needed:.3g} are needed to beat the prior on clear data")
            )
        return found


def _rounded(value: float) -> int:
    """Two significant digits: more would claim too much."""
    return int(float(f"{value:.2g}"))
