"""Two orders of wavelet scattering: a frozen, data-independent description of images."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

__all__ = ["SMALLEST", "Scattering", "morlet"]

SMALLEST = 9  # pixels; the widest filter mirrors eight at a border
_ANGLES = 8
_STRIDE = 4
_PIECE = 64


class Scattering(nn.Module):
    """Scattering coefficients of two octaves and eight angles: 81 maps of a quarter of the side for each channel.

    They are local means of the image, of the moduli of its wavelet coefficients, and of the moduli of these moduli's
    wavelet coefficients. The filters are constants, and every output depends on its own record only.

    Parameters
    ----------
    height, width : int
        Of the images, at least 9 each. Images are mirrored at their borders.

    References
    ----------
    Bruna and Mallat, *Invariant scattering convolution networks*, PAMI 2013. Oyallon and Mallat, *Deep roto-translation
    scattering for object classification*, CVPR 2015.

    Examples
    --------
    >>> import torch
    >>> from skdp.nets.wavelets import Scattering
    >>> Scattering(28, 28)(torch.zeros(2, 3, 28, 28)).shape
    torch.Size([2, 3, 81, 7, 7])
    """

    def __init__(self, height: int, width: int):
        super().__init__()
        for octave, name in enumerate(("fine", "coarse")):
            bank = torch.stack([part for angle in range(_ANGLES) for part in morlet(octave, angle)])
            self.register_buffer(name, bank[:, None].float())  # real and imaginary parts in turn
        for name, size in (("rows", height), ("columns", width)):
            for step in (1, 2):
                self.register_buffer(f"{name}_{step}", _local_means(size, step).float())

    def forward(self, x: Tensor) -> Tensor:
        """Coefficients (batch, channels, 81, height / 4, width / 4) of images (batch, channels, height, width)."""
        # In small pieces, which stay in the processor's cache: several times faster.
        return torch.cat([self._scatter(piece.to(self.fine.dtype)) for piece in x.split(_PIECE)])

    def _scatter(self, x: Tensor) -> Tensor:
        shape = x.shape[:2]
        x = x.flatten(0, 1).unsqueeze(1)
        first = _moduli(x, self.fine, 1)
        second = _moduli(first.flatten(0, 1).unsqueeze(1), self.coarse, 2)
        half = torch.cat([_moduli(x, self.coarse, 2), second.unflatten(0, (len(x), _ANGLES)).flatten(1, 2)], 1)
        full = torch.cat([x, first], 1)
        means = self.rows_1 @ full @ self.columns_1.T, self.rows_2 @ half @ self.columns_2.T
        return torch.cat(means, 1).unflatten(0, shape)


def morlet(octave: int, angle: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of a wavelet, sampled on a square.

    A Gaussian of standard deviation 0.8 * 2**octave, twice that across its direction, times a wave of frequency
    3/4 pi / 2**octave, less the share of the Gaussian that makes the mean zero.
    """
    sigma, frequency, theta = 0.8 * 2**octave, 0.75 * math.pi / 2**octave, angle * math.pi / _ANGLES
    reach = 4 * 2**octave
    grid = torch.arange(-reach, reach + 1, dtype=torch.float64)
    v, h = grid[:, None], grid[None, :]
    along, across = h * math.cos(theta) + v * math.sin(theta), v * math.cos(theta) - h * math.sin(theta)
    gaussian = torch.exp(-(along**2 + (across / 2) ** 2) / (2 * sigma**2))
    gaussian = gaussian / gaussian.sum()
    wave = gaussian * torch.exp(1j * frequency * along)
    wave = wave - gaussian * wave.sum()
    return wave.real, wave.imag


def _moduli(x: Tensor, bank: Tensor, step: int) -> Tensor:
    """Moduli of the wavelet coefficients of one map each, at every `step`-th pixel."""
    reach = bank.shape[-1] // 2
    parts = conv2d(pad(x, (reach,) * 4, mode="reflect"), bank, stride=step)
    return parts.unflatten(1, (-1, 2)).square().sum(2).sqrt()


def _local_means(size: int, step: int) -> Tensor:
    """Matrix of Gaussian means around every fourth pixel, from samples `step` pixels apart."""
    centres = _STRIDE * torch.arange(math.ceil(size / _STRIDE)) + (_STRIDE - 1) / 2
    distance = torch.arange(0, size, step, dtype=torch.float64)[None, :] - centres[:, None]
    weights = torch.exp(-0.5 * (distance / (0.8 * _STRIDE)) ** 2)
    return weights / weights.sum(1, keepdim=True)
