"""The default net for tables: a linear model on frozen, data-independent features.

Nothing here is fitted to rows. Rich frozen features lift private linear models above the linear ceiling at no
privacy cost, and they bound every record's gradient by its residual, which is what makes clipping harmless.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skdp.contract import Public
from skdp.contract.whole_numbers import is_whole
from skdp.nets.pace import INTERCEPT, PaceKeeper
from skdp.nets.step_length import capped_signal, is_paced, nonlinear_share, step_length

__all__ = ["TabularFeatures", "TabularModule", "TabularNet"]

_MAX_WIDTH = 6144
_MAX_FEATURES = 6e7
_NUMERIC_WEIGHT = 4.0
_THRESHOLD = 1.5


class TabularNet(BaseEstimator):
    """Linear model on frozen features of each column and on random interactions of all columns.

    The features are fixed by the number of columns and by `signal`: nothing is learned from rows but one
    linear layer that starts at zero. With little signal for each column the net is a plain linear model; with
    much, most of a row's energy goes to smooth functions and bins of columns and to random Fourier features.

    Parameters
    ----------
    nonlinear : "auto" or float, default="auto"
        Share of nonlinear features in [0, 1]; ``"auto"`` follows from the signal for each variable.
    frequencies : int, default=8
        Sine and cosine pairs of each numeric column.
    bins : int, default=32
        Bins of each numeric column; weights of bins are shrunk at the known noise level after every step.
        Tables of few numeric columns get four times as many bins beside them.
    interactions : int, default=256
        Random Fourier features of all columns together.
    categorical : array-like of bool, shape (n_features,) or None, default=None
        Which columns are indicators (0 or 1) of categories. This is public schema. None takes those that are
        otherwise known to be: by public bounds (0, 1), or found by charged histograms.
    adaptive : bool, default=True
        Whether classifiers of large tables shorten their steps where released gradients show little signal.

    Notes
    -----
    Inputs are clamped to [-1, 1]. A record's feature vector has a norm near one, so its gradient is its
    residual times a number near one.

    References
    ----------
    Rahimi and Recht, *Random features for large-scale kernel machines*, NeurIPS 2007.

    Examples
    --------
    >>> import torch
    >>> from skdp.contract import Public
    >>> from skdp.nets import TabularNet
    >>> public = Public(n=20000, input_shape=(8,), n_outputs=1, task="regression")
    >>> net = TabularNet().build(public, signal=4000.0)
    >>> net(torch.zeros(2, 8)).shape
    torch.Size([2, 1])
    >>> sum(p.numel() for p in net.parameters()) == net.features(torch.zeros(1, 8)).shape[1]
    True
    """

    def __init__(
        self,
        nonlinear: str | float = "auto",
        frequencies: int = 8,
        bins: int = 32,
        interactions: int = 256,
        categorical: Any = None,
        adaptive: bool = True,
    ):
        self.adaptive = adaptive
        self.nonlinear = nonlinear
        self.frequencies = frequencies
        self.bins = bins
        self.interactions = interactions
        self.categorical = categorical

    def informed(self, public: Public) -> Public:
        """What is public with the indicator columns that this specification names, where it names them."""
        if self.categorical is None:
            return public
        columns, mask = math.prod(public.input_shape), np.asarray(self.categorical, bool).ravel()
        if len(mask) != columns:
            raise ValueError(
                f"TabularNet(categorical=...) has {len(mask)} entries for {columns} columns; give one per column"
            )
        return replace(public, indicators=tuple(np.flatnonzero(mask).tolist()))

    def build(self, public: Public, signal: float = math.inf) -> TabularModule:
        """Build the net for data of a public shape.

        Parameters
        ----------
        public : Public
        signal : float, default=inf
            Gaussian-DP parameter of the budget times the number of rows.

        Returns
        -------
        TabularModule

        Raises
        ------
        ValueError
            For a share outside [0, 1], negative counts, or a mask of the wrong length.
        """
        public, signal = self.informed(public), capped_signal(public, signal)
        for name in ("frequencies", "bins", "interactions"):
            value = getattr(self, name)
            if not is_whole(value, 0):
                raise ValueError(f"TabularNet({name}={value!r}) must be a whole number, 0 or more")
        if isinstance(self.nonlinear, str) and self.nonlinear == "auto":
            share = nonlinear_share(public, signal)
            share = 0.0 if share < 0.05 else share  # not worth the time of thousands of columns
        elif isinstance(self.nonlinear, int | float) and 0 <= self.nonlinear <= 1:
            share = float(self.nonlinear)
        else:
            raise ValueError(f"TabularNet(nonlinear={self.nonlinear!r}) must be 'auto' or lie in [0, 1]")
        mask = public.indicator_mask
        features = TabularFeatures(mask, share, self.frequencies, self.bins, self.interactions, public.n)
        module = TabularModule(features, public.n_outputs)
        if signal > 0:
            go = step_length(public, signal)
            # Over a whole fit a bin that never shows 1.5 noise standard deviations of gradient stays at zero.
            module.threshold.fill_(_THRESHOLD * go.clip * go.length / signal / go.steps)
            if self.adaptive and share and is_paced(public, signal):
                noise = go.clip * math.sqrt(go.steps) / signal
                module.pace = PaceKeeper(module.head.weight, noise, go.length * (1 - go.momentum) / go.steps / go.lr)
        return module

    def row_norm(self, public: Public) -> float:
        """Norm that what the last layer is given has at most, its bias included."""
        return math.hypot(3**0.5, INTERCEPT)  # where all columns of a linear net lie on their bounds; near 1 else


class TabularFeatures(nn.Module):
    """Frozen map from columns to features; every output depends on its own record only.

    Blocks, in order: the columns themselves, sines and cosines, bins, random Fourier features, a constant.
    A group of indicators counts as one variable: their number is read off the record itself, as the sum of
    its indicators.

    Parameters
    ----------
    categorical : ndarray of bool, shape (n_features,)
        Indicator columns.
    share : float
        Share of nonlinear features, 0 to 1.
    frequencies, bins, interactions : int
        Sizes of the blocks; bins and frequencies shrink where the width would pass 6144.
    n : int
        Number of rows: fine bins are left out where the features of all rows would not fit into 240 MB.
    """

    def __init__(self, categorical: np.ndarray, share: float, frequencies: int, bins: int, interactions: int, n: int):
        super().__init__()
        numeric = np.flatnonzero(~categorical)
        k = len(numeric)
        if not k or not share:
            frequencies = bins = interactions = 0
        room = _MAX_WIDTH - len(categorical) - interactions
        bins = bins if k * (bins + 2 * frequencies) <= room else 0
        frequencies = max(0, min(frequencies, room // (2 * k))) if k else 0
        fine = bins > 0 and n * (len(categorical) + interactions + k * (5 * bins + 2 * frequencies)) <= _MAX_FEATURES
        self.levels = (bins, 4 * bins) if fine else (bins,) if bins else ()
        self.share, self.k = share, k
        self.energies = _energies(share, frequencies > 0, len(self.levels), interactions // 2 > 0)
        self.register_buffer("numeric", torch.as_tensor(numeric))
        self.register_buffer("indicator", torch.as_tensor(np.flatnonzero(categorical)))
        order = torch.arange(1, frequencies + 1, dtype=torch.float32)
        self.register_buffer("order", order * (math.pi / 2))
        self.register_buffer("amplitude", order.rsqrt() / order.reciprocal().sum().sqrt().clamp_min(1e-9))
        # A fixed generator: the frequencies are a public constant of the package, like the bins.
        draw = torch.randn(len(categorical), interactions // 2, generator=torch.Generator().manual_seed(1))
        width = np.where(categorical, 0.25, 1.0) * 3.0 / math.sqrt(max(k, 1))
        self.register_buffer("projection", draw * torch.as_tensor(width, dtype=torch.float32)[:, None])

    @property
    def shrinkable(self) -> tuple[int, int]:
        """First and last (exclusive) position of the bins in the output."""
        start = len(self.numeric) + len(self.indicator) + 2 * len(self.order) * self.k
        return start, start + self.k * sum(self.levels)

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (batch, width) of inputs of shape (batch, ...)."""
        x = x.flatten(1).to(self.projection.dtype).clamp(-1.0, 1.0)
        z, h = x[:, self.numeric], x[:, self.indicator]
        linear, smooth, binned, mixed = self.energies
        present = h.square().sum(1, keepdim=True)
        # Raw inputs weigh a numeric column by its mean square, 1/3; functions of it need more than that.
        even = _NUMERIC_WEIGHT * self.k / (_NUMERIC_WEIGHT * self.k + present).clamp_min(1.0)
        raw = self.k / (self.k + 3 * present).clamp_min(1.0)
        part = self.share * even + (1 - self.share) * raw
        # Interactions of mostly categorical tables were noise.
        mixed = mixed * ((self.k - present) / (self.k + present).clamp_min(1.0)).clamp_min(0.0)
        numeric = (1 - mixed) * part / max(self.k, 1)
        coded = (1 - mixed) * (1 - part) / present.clamp_min(1.0)
        out = [z * (3 * linear * numeric).sqrt(), h * coded.sqrt()]
        if len(self.order):
            angle = z[:, :, None] * self.order
            waves = torch.cat([angle.sin(), angle.cos()], 2) * self.amplitude.repeat(2)
            out.append(waves.flatten(1) * (smooth * numeric).sqrt())
        for bins in self.levels:
            index = ((z + 1) * (bins / 2)).long().clamp(0, bins - 1)
            hot = torch.zeros(*index.shape, bins, dtype=z.dtype, device=z.device)
            out.append(hot.scatter_(2, index[:, :, None], 1.0).flatten(1) * (binned * numeric).sqrt())
        if self.projection.shape[1]:
            angle = x @ self.projection
            out.append(torch.cat([angle.cos(), angle.sin()], 1) * (mixed / self.projection.shape[1]).sqrt())
        out.append(torch.full_like(x[:, :1], INTERCEPT))
        return torch.cat(out, 1)


def _energies(share: float, smooth: bool, levels: int, mixed: bool) -> tuple[float, float, float, float]:
    """Energy of linear part, smooth part, each level of bins of a column, and of all interactions."""
    linear, waves, binned = {0: (0.35, 0.65, 0.0), 1: (0.20, 0.45, 0.35), 2: (0.15, 0.30, 0.275)}[levels]
    if not smooth:
        linear, waves = linear + waves, 0.0
    return 1 - share * (1 - linear), share * waves, share * binned, 0.4 * share * mixed


class TabularModule(nn.Module):
    """``head(features(x))`` with one trainable linear layer, zero at the start.

    Attributes
    ----------
    features : TabularFeatures
        Frozen and record-wise, so that an engine may compute it once (`precompute_features`).
    head : nn.Linear
        Without bias: the constant feature carries the intercept.
    threshold : Tensor
        Soft threshold of the bins' weights after each step; 0 switches it off.
    pace : PaceKeeper or None
        Shortens steps where the released gradients show little signal.
    """

    precompute_features = True

    def __init__(self, features: TabularFeatures, n_outputs: int):
        super().__init__()
        self.features = features
        columns = len(features.numeric) + len(features.indicator)
        width = features(torch.zeros(1, columns)).shape[1]
        self.head = nn.Linear(width, n_outputs, bias=False)
        nn.init.zeros_(self.head.weight)
        self.register_buffer("threshold", torch.zeros(()))
        self.pace: PaceKeeper | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Logits, or regression outputs on the scale of [-1, 1], of shape (batch, n_outputs)."""
        return self.head(self.features(x))

    @torch.no_grad()
    def post_step(self) -> None:
        """Shorten the step and shrink the bins' weights.

        Both use weights and noisy gradients only, which are released: post-processing, free of privacy cost.
        """
        factor = 1.0 if self.pace is None else self.pace.shorten(self.head.weight)
        start, stop = self.features.shrinkable
        if stop > start and self.threshold > 0:
            weight = self.head.weight[:, start:stop]
            weight.copy_(nn.functional.softshrink(weight, factor * float(self.threshold)))
        if self.pace is not None:
            self.pace.remember(self.head.weight)
