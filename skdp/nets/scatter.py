"""The default net for images: a linear model on wavelet scattering."""

from __future__ import annotations

import math
from numbers import Real

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from torch.nn.functional import group_norm, normalize

from skdp.contract import Public
from skdp.nets.frozen import FrozenFeatures, full_batch_steps, sampled_steps, zero_linear
from skdp.nets.image_shape import channels_and_size, standardised
from skdp.nets.pace import INTERCEPT
from skdp.nets.step_length import StepLength
from skdp.nets.wavelets import SMALLEST, Scattering

__all__ = ["ScatterFeatures", "ScatterLinear"]

# About half of where softmax regression on rows of norm one begins to swing.
_RATE = 12.0
# Many rows are better seen in small batches: more steps for the same work, which wander less and may go further.
_BATCH, _SMALL_STEPS, _FARTHER = 4096, 1000, 1.5


class ScatterLinear(BaseEstimator):
    """Linear model on the wavelet scattering of an image, the strongest net for small images and budgets.

    Nothing is learned from rows but one linear layer that starts at zero. The scattering (two octaves, eight angles,
    81 maps of a quarter of the side for each channel) is fixed, and every normalisation is within a record.

    Parameters
    ----------
    noise : float, default=2.0
        Standard deviation of the privacy noise that the outputs may end with, where ``lr="auto"``: the larger, the
        farther a fit goes.

    Notes
    -----
    Images are records of shape (h, w) or (c, h, w), of at least 9 pixels a side and on any scale: each is standardised
    by its own mean and deviation. A record's features have a norm near one, so its gradient is its residual times a
    number near one.

    References
    ----------
    Oyallon and Mallat, *Deep roto-translation scattering for object classification*, CVPR 2015. Tramèr and Boneh,
    *Differentially private learning needs better features (or much more data)*, ICLR 2021.

    Examples
    --------
    >>> import torch
    >>> from skdp.contract import Public
    >>> from skdp.nets import ScatterLinear
    >>> net = ScatterLinear().build(Public(n=60000, input_shape=(1, 28, 28), n_outputs=10, task="multiclass"))
    >>> net.features(torch.rand(2, 1, 28, 28)).shape
    torch.Size([2, 3970])
    """

    def __init__(self, noise: float = 2.0):
        self.noise = noise

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, with zero weights.

        Parameters
        ----------
        public : Public
        signal : float, default=inf
            Not used: the features are the same at every budget.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            For a noise that is not positive, records that are no images, or images below 9 pixels a side.
        """
        if isinstance(self.noise, bool) or not isinstance(self.noise, Real) or not 0 < self.noise < math.inf:
            raise ValueError(f"ScatterLinear(noise={self.noise!r}) must be a positive number")
        channels, height, width = channels_and_size("ScatterLinear", public.input_shape, SMALLEST)
        features = ScatterFeatures(height, width)
        grid = math.ceil(height / 4) * math.ceil(width / 4)
        return FrozenFeatures(features, zero_linear(81 * channels * grid + 1, public.n_outputs, bias=False))

    def row_norm(self, public: Public) -> float:
        """Norm of what the head is given."""
        return math.hypot(1.0, INTERCEPT)

    def step_length(self, public: Public, signal: float) -> StepLength:
        """Clip norm, steps, learning rate and share of the rows in a step from public quantities."""
        if public.n < 4 * _BATCH:
            return full_batch_steps(public, signal, clip=1.0, noise=self.noise, momentum=0.95, least=240, rate=_RATE)
        return sampled_steps(
            public, signal, clip=0.5, noise=_FARTHER * self.noise, momentum=0.9, steps=_SMALL_STEPS, batch=_BATCH
        )


class ScatterFeatures(nn.Module):
    """Scattering coefficients of norm one and a constant.

    Parameters
    ----------
    height, width : int
        Of the images.
    """

    def __init__(self, height: int, width: int):
        super().__init__()
        self.scattering = Scattering(height, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features of shape (batch, width) of images (batch, h, w) or (batch, c, h, w)."""
        if x.dim() == 3:
            x = x.unsqueeze(1)
        rows = contrasts(self.scattering(standardised(x)))
        return torch.cat([rows, rows.new_full((len(rows), 1), INTERCEPT)], 1)


def contrasts(coefficients: Tensor) -> Tensor:
    """Each map against its mean, then each place against the mean of its maps; one row of norm one for each record."""
    maps = coefficients.flatten(1, 2)
    maps = group_norm(maps, maps.shape[1], eps=1e-4)
    maps = maps - maps.mean(1, keepdim=True)
    maps = maps / (maps.square().mean(1, keepdim=True).sqrt() + 0.1)
    return normalize(maps.flatten(1), eps=1e-6)
