"""A public random projection: a front part that is known before any row is, and makes few numbers of many."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skdp.contract.whole_numbers import is_whole

__all__ = ["RandomProjection"]


class RandomProjection(nn.Module):
    """Frozen Gaussian projection of flattened inputs to `width` numbers, the same in every process.

    Norms are kept in expectation, and distances within a factor of about ``1 ± sqrt(8 log(n) / width)``.

    Parameters
    ----------
    n_features : int
        Numbers of one record.
    width : int, default=16
        Numbers of the result: noise on activations grows with their number, so few is good.
    seed : int, default=0
        Public.

    References
    ----------
    Johnson and Lindenstrauss, *Extensions of Lipschitz mappings into a Hilbert space*, 1984.

    Examples
    --------
    >>> RandomProjection(100, 8)(torch.randn(5, 10, 10)).shape
    torch.Size([5, 8])
    """

    def __init__(self, n_features: int, width: int = 16, seed: int = 0):
        super().__init__()
        if not is_whole(width):
            raise ValueError(f"RandomProjection(width={width!r}) must be a whole number of at least 1")
        own = torch.Generator().manual_seed(seed)
        self.register_buffer("directions", torch.randn(n_features, width, generator=own) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Projections of shape (batch, width)."""
        return x.flatten(1).to(self.directions.dtype) @ self.directions

    def extra_repr(self) -> str:
        """The two sizes."""
        return f"{self.directions.shape[0]} -> {self.directions.shape[1]}"
