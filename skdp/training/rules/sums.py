"""Sums over records that one record cannot push far: float32 products of short runs, added up in float64.

A float32 sum rounds at the size of what it holds so far, so in one long run a single record may decide whether
thousands of small ones behind it are kept or lost, which moves the sum by much more than the record itself. Here a
record is added up with at most `RUN` others before float64 takes over. Where a neighbour has a null row in its place,
the other runs stay as they are, bit by bit; where it has one row less, all runs shift, and numbers come in float64
(`Captured.widen`). With each record's part at most C in norm, any order of adding up m of them errs by at most
C m^2 / 2 float32 roundings (2^-24), and adding the sums of `TOGETHER` runs by C RUN TOGETHER^2 / 2 of them; two
neighbours err by twice that: below `SUM_SLACK` C.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SUM_SLACK", "accumulator", "add_products", "add_products_of_each", "add_rows"]

RUN = 128
TOGETHER = 8
SUM_SLACK = 2e-3
LARGE = 1 << 14  # numbers of a product from which on products are made one at a time
PRODUCTS = 1 << 19  # numbers of products in memory at a time where they are made together


def accumulator(device: torch.device) -> torch.dtype:
    """The type in which sums over records are kept; Apple's accelerators know no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def add_products(left: Tensor, right: Tensor, out: Tensor, positions: int = 1) -> None:
    """Add the sum of outer products to `out`: (rows, p), (rows, d), (p, d).

    Parameters
    ----------
    left, right : float32 tensors
    out : tensor of shape (p, d)
        Usually float64; changed in place.
    positions : int
        Rows of one record, which follow one another. A record bounds the sum of its rows, so runs may be longer by
        the root of their number.
    """
    rows, size = len(left), out.numel()
    run = RUN * max(1, int(positions**0.5))
    if size >= LARGE:
        # One product after the other in the same small memory, which stays in the cache.
        product, total = left.new_empty(out.shape), left.new_empty(out.shape)
        for start in range(0, rows, run * TOGETHER):
            stop = min(rows, start + run * TOGETHER)
            torch.mm(left[start : min(stop, start + run)].t(), right[start : min(stop, start + run)], out=total)
            for begin in range(start + run, stop, run):
                part = slice(begin, min(stop, begin + run))
                total.add_(torch.mm(left[part].t(), right[part], out=product))
            out.add_(total)
        return
    whole = rows - rows % run
    runs = max(TOGETHER, PRODUCTS // size)
    for start in range(0, whole, runs * run):
        part = slice(start, min(whole, start + runs * run))
        products = torch.bmm(left[part].unflatten(0, (-1, run)).mT, right[part].unflatten(0, (-1, run)))
        out.add_(products.sum(0, dtype=out.dtype))
    if whole < rows:
        out.add_(left[whole:].t() @ right[whole:])


def add_rows(values: Tensor, out: Tensor, positions: int = 1) -> None:
    """Add the sum of rows to `out`, in runs as in `add_products`: (rows, p), (p,)."""
    add_products(values.new_ones(len(values), 1), values, out.view(1, -1), positions)


def add_products_of_each(left: Tensor, right: Tensor, out: Tensor) -> None:
    """`add_products` for each of several nets: (nets, rows, p), (nets, rows, d), (nets, p, d)."""
    for start in range(0, left.shape[1], RUN):
        part = slice(start, start + RUN)
        out.add_(torch.bmm(left[:, part].mT, right[:, part]))
