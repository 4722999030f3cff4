"""Charts as SVG that takes its colours from the page, with a title and description for readers who do not see them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from skdp.contract.shown import rows_in_words
from skdp.reporting.utility import ReliabilityBin

__all__ = ["bars", "guess", "reliability"]

_WIDTH, _ROW = 360, 38
_LABEL = 46  # characters that fit on a line


def bars(title: str, rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars, each below its label.

    Parameters
    ----------
    title : str
    rows : sequence of (label, length in [0, 1], figure)

    Returns
    -------
    str
    """
    parts = []
    for i, (label, length, figure) in enumerate(rows):
        top = i * _ROW
        width = max(2.0, length * (_WIDTH - 70)) if length > 0 else 0.0
        parts.append(
            f'<text x="0" y="{top + 13}">{escape(_short(label))}</text>'
            f'<rect class="track" x="0" y="{top + 18}" width="{_WIDTH - 70}" height="12" rx="3"/>'
            f'<rect class="mark" x="0" y="{top + 18}" width="{width:.1f}" height="12" rx="3"/>'
            f'<text x="{_WIDTH}" y="{top + 29}" text-anchor="end">{escape(figure)}</text>'
        )
    told = "; ".join(f"{label}: {figure}" for label, _, figure in rows)
    return _svg(title, told, _WIDTH, _ROW * len(rows), parts)


def guess(title: str, best: float) -> str:
    """A scale from a coin flip to certainty, with a mark.

    Parameters
    ----------
    title : str
    best : float
        Share of right guesses, in [0.5, 1].

    Returns
    -------
    str
    """
    place = 8 + (best - 0.5) * 2 * (_WIDTH - 16)
    anchor = "start" if best < 0.65 else "end" if best > 0.85 else "middle"
    x = {"start": max(place - 8, 0), "middle": place, "end": min(place + 8, _WIDTH)}[anchor]
    parts = [
        f'<rect class="track" x="8" y="26" width="{_WIDTH - 16}" height="8" rx="4"/>',
        f'<rect class="mark" x="8" y="26" width="{place - 8:.1f}" height="8" rx="4"/>',
        f'<circle class="mark" cx="{place:.1f}" cy="30" r="7"/>',
        f'<text x="{x:.1f}" y="14" text-anchor="{anchor}">{_up(best)}</text>',
        '<text class="faint" x="0" y="54">50 %: a coin flip</text>',
        f'<text class="faint" x="{_WIDTH}" y="54" text-anchor="end">100 %: certainty</text>',
    ]
    return _svg(title, f"The mark stands at {_up(best)} on a scale from 50 % to 100 %.", _WIDTH, 60, parts)


def reliability(title: str, bins: Iterable[ReliabilityBin]) -> str:
    """Observed against predicted shares, the diagonal of a perfectly calibrated model, and how many rows each bin has.

    Parameters
    ----------
    title : str
    bins : iterable of ReliabilityBin

    Returns
    -------
    str
    """
    bins = list(bins)
    side, left, top = 270, 46, 8
    bottom, strip = top + side, 44

    def x(value: float) -> float:
        return left + value * side

    def y(value: float) -> float:
        return bottom - value * side

    parts = [f'<rect class="axis" x="{left}" y="{top}" width="{side}" height="{side}"/>']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<text class="faint" x="{left - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
        parts.append(
            f'<text class="faint" x="{x(tick):.1f}" y="{bottom + strip + 20}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<path class="ideal" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    points = [(x(b.predicted), y(b.observed)) for b in bins]
    if len(points) > 1:
        parts.append('<path class="curve" d="M' + "L".join(f"{px:.1f} {py:.1f}" for px, py in points) + '"/>')
    parts += [f'<circle class="mark" cx="{px:.1f}" cy="{py:.1f}" r="4.5"/>' for px, py in points]
    most = max((b.rows for b in bins), default=1)
    for b in bins:
        height = max(1.0, b.rows / most * (strip - 10))
        parts.append(
            f'<rect class="mark" x="{x(b.predicted) - 8:.1f}" y="{bottom + strip - height:.1f}" width="16" '
            f'height="{height:.1f}"/>'
        )
    base = bottom + strip
    middle = left + side / 2
    parts += [
        f'<path class="axis" d="M{left} {base}H{left + side}"/>',
        f'<text x="{middle}" y="{base + 38}" text-anchor="middle">predicted probability</text>',
        f'<text transform="translate(12 {top + side / 2}) rotate(-90)" text-anchor="middle">observed share</text>',
        f'<text class="faint" transform="translate(12 {bottom + strip / 2 + 4}) rotate(-90)" '
        'text-anchor="middle">rows</text>',
    ]
    told = "; ".join(f"predicted {b.predicted:.2f}, observed {b.observed:.2f} ({rows_in_words(b.rows)})" for b in bins)
    return _svg(title, told, left + side + 14, base + 46, parts, "square")


def _svg(title: str, told: str, width: float, height: float, parts: Iterable[str], kind: str = "") -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}. {escape(told)}"'
        f"{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{''.join(parts)}</svg>"
    )


def _short(label: str) -> str:
    return label if len(label) <= _LABEL else label[: _LABEL - 1] + "…"


def _up(share: float) -> str:
    """A share in percent, rounded up: what an attacker reaches must not look smaller than it is."""
    percent = math.ceil(share * 1000 - 1e-9) / 10
    return f"{percent:g} %"
