"""Queries: which values are to be computed from one sample, and what comes back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from skdp.contract.prices import Touch

CLIPPINGS = ("flat", "automatic", "global", "per-layer")


class Value(Protocol):
    """One quantity of a query. Fields are public; `sensitivity` is L2 under zero-out."""

    @property
    def sensitivity(self) -> Any:
        """Most that one record can move the value, in L2 norm."""


@dataclass(frozen=True, eq=False)
class ClippedSum:
    """Sum over the sample of per-record gradients, each bounded in L2 norm by `bound`.

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm; ``inf`` leaves gradients as they are (only together with no noise).
    clipping : {"flat", "automatic", "global", "per-layer"}
        How a gradient is brought under the bound.

    Examples
    --------
    >>> ClippedSum(0.5).sensitivity
    0.5
    """

    bound: Any
    clipping: str = "flat"

    @property
    def sensitivity(self) -> Any:
        """The clip norm."""
        return self.bound


@dataclass(frozen=True, eq=False)
class ThinnedSum:
    """Sum over the sample of gradients kept by chance and stretched: an unbiased estimate of the flat `ClippedSum`.

    With n a record's gradient norm, it is kept with probability min(n, `bound`) / `bound`, by a secret draw of its
    own, and counts with norm `bound` exactly.

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm; positive and finite.

    Examples
    --------
    >>> ThinnedSum(0.5).sensitivity
    0.5
    """

    bound: Any

    def __post_init__(self) -> None:
        if isinstance(self.bound, (int, float)) and not 0 < self.bound < float("inf"):
            raise ValueError(
                f"ThinnedSum(bound={self.bound!r}) must be positive and finite; clip nothing by ClippedSum"
            )

    @property
    def sensitivity(self) -> Any:
        """The clip norm."""
        return self.bound


@dataclass(frozen=True, eq=False)
class NormSum:
    """Sum over the sample of per-record gradient norms, each at most `bound`; no gradient is added up for it.

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm.

    Examples
    --------
    >>> NormSum(0.5).sensitivity
    0.5
    """

    bound: Any

    @property
    def sensitivity(self) -> Any:
        """The clip norm."""
        return self.bound


@dataclass(frozen=True, eq=False)
class CarrierSum(ClippedSum):
    r"""A clipped sum in which some weights are seen through two thin public matrices, their carriers.

    Where :math:`\nabla_W` is a record's gradient for a weight of shape (out, ...), taken as a matrix (out, in), and the
    weight has carriers :math:`L` and :math:`R`, the record contributes :math:`\nabla_W R^\top` and
    :math:`L^\top\nabla_W` in its place; parameters without carriers contribute as they are. All parts together are
    brought under `bound`, *after* they were seen through the carriers, so the sensitivity needs nothing of these but
    that they are public.

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm of all parts together.
    clipping : {"flat", "automatic", "global", "per-layer"}
        As in `ClippedSum`.
    carriers : mapping of str to tuple
        By parameter name: ``(L, R)`` of shapes (out, r) and (r, in); `L` None leaves :math:`L^\top\nabla_W` out.

    Notes
    -----
    The answer is a list: for every parameter, in order, its own sum or that of :math:`\nabla_W R^\top`, of shape
    (out, r); behind them, of each weight with an `L`, in the same order, :math:`L^\top\nabla_W`, of shape (r, ...).

    Examples
    --------
    >>> CarrierSum(0.5, carriers={"weight": (None, np.eye(4)[:1])}).sensitivity
    0.5
    """

    carriers: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class NormBelow:
    """Sum over the sample of +1/2 where the gradient norm is at most `bound`, else -1/2; a null row gives 0.

    Centred at zero because the centred count moves by 1/2 where the plain one moves by 1 (Andrew et al., 2021).

    Parameters
    ----------
    bound : float or 0-dim tensor
        Clip norm that norms are compared with.

    Examples
    --------
    >>> NormBelow(1.0).sensitivity
    0.5
    """

    bound: Any
    sensitivity: float = field(default=0.5, init=False)


@dataclass(frozen=True, eq=False)
class Counts:
    """Histograms over public bins: in each of ``len(edges)`` groups a record adds 1 to at most one bin.

    Parameters
    ----------
    of : {"X", "y"}
        Which array is binned; its columns are the groups.
    edges : ndarray of shape (groups, bins - 1)
        Public inner edges of every group's bins.
    sums : ndarray of shape (k, bins) or None
        Public weights of k sums over the bins of a group, which are the answer in place of the bins themselves.

    Examples
    --------
    >>> Counts("y", np.array([[0.5, 1.5]])).sensitivity
    1.0
    >>> round(Counts("y", np.array([[0.5, 1.5]]), sums=np.tril(np.ones((3, 3)))).sensitivity ** 2)  # in all three sums
    3
    """

    of: str
    edges: Any
    sums: Any = None

    @property
    def sensitivity(self) -> float:
        """Root of the number of groups, times the norm of all weights of the bin that weighs most."""
        norm = 1.0 if self.sums is None else float(np.linalg.norm(self.sums, axis=0).max())
        return float(len(self.edges)) ** 0.5 * norm


@dataclass(frozen=True, eq=False)
class Frequent:
    """Values of columns of text whose noisy number of rows is above a threshold, with that number.

    Which values occur is private, so only those that occur get noise, and what keeps a rare one back is the threshold:
    its failure probability belongs into `Charge.delta_fail`.

    Parameters
    ----------
    of : str
        Which array is counted; None is no value.
    groups : int
        Number of its columns, in each of which a record has at most one value.
    threshold : float
        What a noisy number has to exceed.

    Notes
    -----
    The answer is a list: for every column, sorted values and their noisy numbers.

    Examples
    --------
    >>> Frequent("X", groups=4, threshold=50.0).sensitivity
    2.0
    """

    of: str
    groups: int
    threshold: float

    @property
    def sensitivity(self) -> float:
        """Root of the number of groups."""
        return float(self.groups) ** 0.5


@dataclass(frozen=True, eq=False)
class RowSum:
    """Sum over rows of `map` of each row, brought under `bound` in L2 norm; a row that maps to NaN or inf is null.

    Parameters
    ----------
    of : {"X", "y"}
        Which array is summed up.
    map : callable
        Public, and a dataclass of public values: from rows of shape (m, columns) to contributions of shape (m, k), each
        from its own row alone. A missing value adds nothing: the map gives 0 where it depends on one.
    bound : float
        Largest L2 norm of a contribution; longer ones are shortened.

    Examples
    --------
    >>> RowSum("X", np.square, 2.0).sensitivity
    2.0
    """

    of: str
    map: Callable[[Any], Any]
    bound: float

    def __post_init__(self) -> None:
        if not 0 < self.bound < float("inf"):
            raise ValueError(f"RowSum(bound={self.bound!r}) must be positive and finite")

    @property
    def sensitivity(self) -> float:
        """The bound."""
        return self.bound


@dataclass(frozen=True, eq=False)
class LinearGradient:
    r"""Sum over the sample of gradients of a linear model's loss, each brought under `bound` in L2 norm.

    Parameters
    ----------
    coef : ndarray of shape (k, columns)
        Public weights: outputs are ``X @ coef.T``.
    loss : object
        Public, and a dataclass of public values: ``slopes(outputs, targets)`` of shape (m, k) is the derivative of each
        row's loss by its own outputs.
    bound : float
        Clip norm of :math:`s x^\top`, a row's slopes times its values; ``inf`` leaves gradients as they are (only
        together with no noise).

    Notes
    -----
    Rows and targets are the arrays "X" and "y"; where there is an array "weight", it multiplies slopes before they are
    clipped. The answer has the shape of `coef`.

    Examples
    --------
    >>> LinearGradient(np.zeros((1, 3)), None, 0.5).sensitivity
    0.5
    """

    coef: Any
    loss: Any
    bound: float

    def __post_init__(self) -> None:
        if not self.bound > 0:
            raise ValueError(f"LinearGradient(bound={self.bound!r}) must be positive")

    @property
    def sensitivity(self) -> float:
        """The clip norm."""
        return self.bound


@dataclass(frozen=True, eq=False)
class Activations:
    """Every row's activations where the net is split, brought under `bound` in L2 norm; a null row gives zeros.

    One vector per row and no sum over them: the number of rows is public, and a sampler has to take all of them.

    Parameters
    ----------
    bound : float
        Clip norm over all of a row's activations; ``inf`` leaves them as they are (only together with no noise).

    Examples
    --------
    >>> Activations(2.0).sensitivity
    2.0
    """

    bound: float

    @property
    def sensitivity(self) -> float:
        """The clip norm: the null row's zeros are that far away at most."""
        return self.bound


@dataclass(frozen=True, eq=False)
class Labels:
    """Every row's class, for a touch whose noise is a `Response`.

    Parameters
    ----------
    classes : int

    Examples
    --------
    >>> Labels(3).sensitivity
    1.0
    """

    classes: int
    sensitivity: float = field(default=1.0, init=False)


@dataclass(frozen=True, eq=False)
class Query:
    """Values that are all answered from one sample of `touch`, at the model's current public weights.

    Parameters
    ----------
    touch : Touch
        The line of the price list that pays.
    values : tuple of Value
        One per noise multiplier of the touch.

    Examples
    --------
    >>> from skdp.contract import Gaussian, Poisson
    >>> query = Query(Touch("gradient", Poisson(0.1), Gaussian((1.0,)), 10), (ClippedSum(1.0),))
    >>> query.fingerprint() == Query(query.touch, (ClippedSum(1.0),)).fingerprint()
    True
    """

    touch: Touch
    values: tuple[Value, ...]

    def fingerprint(self, weights: Mapping[str, Any] | None = None) -> str:
        """Digest of everything public about the query; transcript replay compares it between neighbours."""
        return hashlib.sha256(b"".join(exactly((self.touch, self.values, dict(weights or {}))))).hexdigest()


def exactly(public: Any) -> Iterator[bytes]:
    """Bytes that tell any two public values apart, where a repr rounds tensors and leaves out most of an array."""
    if hasattr(public, "detach"):
        yield str(public.dtype).encode()
        public = public.detach().cpu()
        # numpy has no bfloat16; float32 holds each of its values.
        public = (public.float() if "bfloat16" in str(public.dtype) else public).numpy()
    if isinstance(public, Mapping):
        public = sorted(public.items())
    if isinstance(public, (list, tuple)) or (isinstance(public, np.ndarray) and public.dtype == object):
        yield f"<{type(public).__name__} {len(public)}>".encode()
        for part in public:
            yield from exactly(part)
    elif isinstance(public, (float, np.ndarray, np.generic)):
        array = np.asarray(public)
        yield f"<{array.dtype} {array.shape}>".encode() + array.tobytes()
    elif hasattr(public, "__qualname__") or not hasattr(public, "__dict__"):
        yield f"<{getattr(public, '__qualname__', repr(public))}>".encode()
    else:
        yield type(public).__qualname__.encode()
        yield from exactly(vars(public))


Answers = tuple[Any, ...]
"""What comes back: one noisy answer per value of the query, in order (a ClippedSum's is a list of tensors)."""
