"""What the nets for images have in common: their shape, and a scale of their own."""

from __future__ import annotations

from torch import Tensor

__all__ = ["channels_and_size", "is_image", "standardised"]

_CHANNELS = (1, 2, 3, 4)


def is_image(shape: tuple[int, ...], smallest: int) -> bool:
    """Whether records of this shape are taken for images where no net is named; those with channels last are, too."""
    if len(shape) == 3 and shape[2] in _CHANNELS and shape[0] not in _CHANNELS:
        shape = shape[:2]
    return len(shape) in (2, 3) and min(shape[-2:]) >= smallest


def channels_and_size(name: str, shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """Channels, height and width of records of this shape.

    Raises
    ------
    ValueError
        For records that are no images, have their channels last, or are too small; `name` is the net's.
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"{name} needs images, records of shape (h, w) or (c, h, w); these have shape {shape}")
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    if len(shape) == 3 and width in _CHANNELS and channels not in _CHANNELS:
        raise ValueError(
            f"{name}: records of shape {shape} seem to have their channels last; pass X.transpose(0, 3, 1, 2), of "
            f"shape (n, {width}, {channels}, {height})"
        )
    if min(height, width) < smallest:
        raise ValueError(
            f"{name} needs images of at least {smallest} x {smallest} pixels; these have {height} x {width}. Enlarge "
            "or pad them, or use module='mlp'"
        )
    return channels, height, width


def standardised(x: Tensor) -> Tensor:
    """Each record by its own mean and deviation, so that pixels may be on any scale; a plain image becomes zero."""
    x = x - x.mean((1, 2, 3), keepdim=True)
    return x / x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(1e-6)
