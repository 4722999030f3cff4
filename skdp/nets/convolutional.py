"""A small convolutional net without batch statistics."""

from __future__ import annotations

import math

import torch
from sklearn.base import BaseEstimator
from torch import Tensor, nn

from skdp.contract import Public
from skdp.contract.whole_numbers import is_whole
from skdp.nets.frozen import zero_linear
from skdp.nets.image_shape import channels_and_size, standardised

__all__ = ["TanhCNN"]

_SMALLEST = 14  # pixels; of less the second pooling would leave nothing


class TanhCNN(BaseEstimator):
    """Two convolutions with bounded activations and two linear layers: 26,010 parameters for ten classes of 28 x 28.

    Parameters
    ----------
    channels : tuple of int, default=(16, 32)
        Maps of the two convolutions, of 8 x 8 and 4 x 4 pixels and stride 2.
    hidden_units : int, default=32
        Width of the linear layer between the maps and the zero-initialised last one.

    Notes
    -----
    Images are records of shape (h, w) or (c, h, w), of at least 14 pixels a side and on any scale: each is
    standardised by its own mean and deviation.

    References
    ----------
    Papernot et al., *Tempered sigmoid activations for deep learning with differential privacy*, AAAI 2021.

    Examples
    --------
    >>> from skdp.contract import Public
    >>> from skdp.nets import TanhCNN
    >>> net = TanhCNN().build(Public(n=60000, input_shape=(1, 28, 28), n_outputs=10, task="multiclass"))
    >>> sum(p.numel() for p in net.parameters())
    26010
    """

    def __init__(self, channels: tuple[int, int] = (16, 32), hidden_units: int = 32):
        self.channels = channels
        self.hidden_units = hidden_units

    def build(self, public: Public, signal: float = math.inf) -> nn.Module:
        """The net, freshly initialised from torch's generator.

        Parameters
        ----------
        public : Public
        signal : float, default=inf
            Not used.

        Returns
        -------
        nn.Module

        Raises
        ------
        ValueError
            For wrong widths, records that are no images, or images below 14 pixels.
        """
        maps, hidden = self.channels, self.hidden_units
        if not isinstance(maps, tuple | list) or len(maps) != 2 or not all(map(is_whole, maps)):
            raise ValueError(f"TanhCNN(channels={maps!r}) must be two positive whole numbers")
        if not is_whole(hidden):
            raise ValueError(f"TanhCNN(hidden_units={hidden!r}) must be a positive whole number")
        channels, height, width = channels_and_size("TanhCNN", public.input_shape, _SMALLEST)
        front = nn.Sequential(
            OwnScale(),
            nn.Conv2d(channels, maps[0], 8, stride=2, padding=3),
            nn.Tanh(),
            nn.MaxPool2d(2, stride=1),
            nn.Conv2d(maps[0], maps[1], 4, stride=2),
            nn.Tanh(),
            nn.MaxPool2d(2, stride=1),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = front(torch.zeros(1, channels, height, width)).shape[1]
        return nn.Sequential(*front, nn.Linear(flat, hidden), nn.Tanh(), zero_linear(hidden, public.n_outputs))


class OwnScale(nn.Module):
    """Images as (batch, c, h, w), each standardised by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Images of the same shape; those without a dimension for channels get one."""
        return standardised(x.unsqueeze(1) if x.dim() == 3 else x)
