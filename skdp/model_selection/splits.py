"""Splits that are functions of public values: the number of rows, positions, ids, coins.

Privacy of several fits adds up per record only if one record cannot move others between them. In a stratified split it
can: with one label changed, hundreds of rows change folds.
"""

from __future__ import annotations

import hashlib
import math
import numbers
import secrets
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.model_selection import (
    BaseCrossValidator,
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    LeavePGroupsOut,
    LeavePOut,
    PredefinedSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.model_selection import train_test_split as _by_positions
from sklearn.utils import _safe_indexing, check_random_state, indexable
from sklearn.utils.validation import _num_samples

__all__ = ["PublicGroupKFold", "PublicKFold", "check_splitter", "public_train_test_split"]

_OF_POSITIONS = (KFold, RepeatedKFold, ShuffleSplit, LeaveOneOut, LeavePOut, TimeSeriesSplit, PredefinedSplit)
_OF_GROUPS = (GroupShuffleSplit, LeaveOneGroupOut, LeavePGroupsOut)
_OF_LABELS = (StratifiedKFold, RepeatedStratifiedKFold, StratifiedShuffleSplit, StratifiedGroupKFold)
_REMEDY = "pass cv=skdp.model_selection.PublicKFold(...)"


class PublicKFold(KFold):
    """K folds by position: which row is in which fold depends on the number of rows and on the seed.

    It is scikit-learn's `KFold` with a name that says why; labels are never looked at. A classifier's ``cv=5`` is
    *stratified*, so pass ``cv=PublicKFold(5)`` instead.

    Parameters
    ----------
    n_splits : int, default=5
    shuffle : bool, default=False
    random_state : int, RandomState or None, default=None
        Seeds the shuffle; it is public.

    Notes
    -----
    *Formal guarantee.* A record is in the training rows of ``n_splits - 1`` folds, whatever any record holds, so a
    neighbouring table gives neighbouring folds, and the fits compose per record. Under ``"zero-out"`` and
    ``"replace-one"``; under ``"add-remove"`` positions shift with a row that is not there, and only ids are stable:
    use `PublicGroupKFold`.

    Examples
    --------
    >>> [test.tolist() for _, test in PublicKFold(2).split([[0], [1], [2], [3]])]
    [[0, 1], [2, 3]]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None):
        super().__init__(n_splits, shuffle=shuffle, random_state=random_state)


class PublicGroupKFold(BaseCrossValidator):
    """K folds of groups: each group draws its fold by itself, by a keyed hash of its id.

    scikit-learn's `GroupKFold` balances folds by the sizes of groups: one more row of one person moves other persons to
    other folds. Here all rows of a group share a fold that depends on its id and the key alone, so folds are only about
    equally large.

    Parameters
    ----------
    n_splits : int, default=5
    random_state : int or None, default=None
        Key of the hash; None draws a new one for each call of `split`.

    Notes
    -----
    *Formal guarantee.* Nothing that one group holds, nor whether it is there at all, changes the fold of another. Ids
    are taken as public, and so is the number of rows of each fold, which a fit states as its n: with groups of private
    size protect groups as the unit, as one record each.

    Examples
    --------
    >>> groups = ["ann", "ann", "bob", "cy", "dee", "dee"]
    >>> folds = [test.tolist() for _, test in PublicGroupKFold(2, random_state=0).split(groups, groups=groups)]
    >>> sorted(sum(folds, []))
    [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, n_splits: int = 5, *, random_state: int | None = None):
        self.n_splits = n_splits
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """The number of folds."""
        return self.n_splits

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Training and test positions of each fold.

        Parameters
        ----------
        X : array-like of shape (n, ...)
        y : object
            Ignored.
        groups : array-like of shape (n,)
            Public id of each row's group.

        Yields
        ------
        train, test : ndarray of int
        """
        if isinstance(self.n_splits, bool) or not isinstance(self.n_splits, numbers.Integral) or self.n_splits < 2:
            raise ValueError(f"n_splits={self.n_splits!r} must be a whole number of at least 2")
        if groups is None:
            raise ValueError("groups=None: pass the public id of each row's group")
        if len(groups) != _num_samples(X):
            raise ValueError(f"groups holds {len(groups)} ids for {_num_samples(X)} rows")
        folds = np.floor(_draws(groups, self.random_state) * self.n_splits).astype(int)
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)


def public_train_test_split(
    *arrays: Any, test_size: float = 0.25, random_state: int | None = None, ids: Any = None
) -> list[Any]:
    """Training and test rows, by the number of rows and a seed, or by an independent draw of each id.

    Parameters
    ----------
    *arrays : array-like of shape (n, ...)
        Tables, labels, weights.
    test_size : float, default=0.25
        Share of rows; with `ids`, chance of each.
    random_state : int or None, default=None
        Public seed.
    ids : array-like of shape (n,), optional
        Public id of each row's unit. Rows of one unit stay together, and a unit keeps its side when others come or go,
        for instance in the table of next month.

    Returns
    -------
    list
        Training part and test part of each array in turn.

    Notes
    -----
    *Formal guarantee.* Labels and values are not looked at (there is no ``stratify``), so no record decides on which
    side another one is.

    Examples
    --------
    >>> train, test = public_train_test_split(np.arange(8), random_state=0)
    >>> len(train), len(test)
    (6, 2)
    >>> train, test = public_train_test_split(["a", "b", "c"], ids=["ann", "bob", "bob"], random_state=1)
    >>> ("b" in train) == ("c" in train)
    True
    """
    if not isinstance(test_size, numbers.Real) or isinstance(test_size, bool) or not 0 < test_size < 1:
        raise ValueError(f"test_size={test_size!r} must be a share of the rows, between 0 and 1")
    if not arrays:
        raise ValueError("public_train_test_split needs at least one array")
    arrays = indexable(*arrays)
    n = _num_samples(arrays[0])
    if ids is None:
        train, test = _by_positions(np.arange(n), test_size=test_size, random_state=check_random_state(random_state))
    else:
        if len(ids) != n:
            raise ValueError(f"ids holds {len(ids)} ids for {n} rows")
        tested = _draws(ids, random_state) < test_size
        train, test = np.flatnonzero(~tested), np.flatnonzero(tested)
    return [_safe_indexing(array, part) for array in arrays for part in (train, test)]


def check_splitter(cv: Any, *, classifier: bool = True) -> Any:
    """The splitter, once it is known to divide rows by public values alone.

    A fit cannot tell by which rule the rows came to it, so neither can its charge or a ledger: ask before.

    Parameters
    ----------
    cv : int, None or splitter
        As for `sklearn.model_selection.cross_validate`.
    classifier : bool, default=True
        Whether it is for a classifier, where scikit-learn takes numbers to mean *stratified* folds.

    Returns
    -------
    splitter
        Positions: `PublicKFold`, `KFold`, `ShuffleSplit`, `TimeSeriesSplit` and the like. Ids, which are then taken as
        public: `PublicGroupKFold`, `GroupShuffleSplit`, `LeaveOneGroupOut`, `LeavePGroupsOut`.

    Raises
    ------
    ValueError
        It looks at labels or at sizes of groups, or nobody here knows what it looks at; what to pass instead.

    Examples
    --------
    >>> check_splitter(PublicKFold(3))
    PublicKFold(n_splits=3, random_state=None, shuffle=False)
    >>> check_splitter(5)
    Traceback (most recent call last):
    ...
    ValueError: cv=5 means stratified folds for a classifier: one label decides on the folds of other rows; \
pass cv=skdp.model_selection.PublicKFold(...)
    """
    if cv is None or isinstance(cv, numbers.Integral):
        if classifier:
            raise ValueError(
                f"cv={cv} means stratified folds for a classifier: one label decides on the folds of other rows; "
                f"{_REMEDY}"
            )
        return PublicKFold(5 if cv is None else int(cv))
    if type(cv) in (*_OF_POSITIONS, *_OF_GROUPS, PublicKFold, PublicGroupKFold):
        return cv
    name = type(cv).__name__
    if isinstance(cv, _OF_LABELS):
        raise ValueError(f"cv={name} balances labels: one label decides on the folds of other rows; {_REMEDY}")
    if isinstance(cv, GroupKFold):
        raise ValueError(
            f"cv={name} balances the sizes of groups: one row more of one group decides on the folds of others; pass "
            "cv=skdp.model_selection.PublicGroupKFold(...)"
        )
    raise ValueError(
        f"cv={name} is not known to divide rows by public values alone; {_REMEDY}, or "
        "cv=sklearn.model_selection.PredefinedSplit(folds) with folds that you made of public values"
    )


def _draws(ids: Any, random_state: Any) -> np.ndarray:
    """A number in [0, 1) for each id, independent and uniform over the key."""
    if random_state is None:
        random_state = secrets.randbits(64)
    if isinstance(random_state, bool) or not isinstance(random_state, numbers.Integral):
        raise ValueError(f"random_state={random_state!r} must be a whole number or None")
    key = hashlib.blake2b(str(int(random_state)).encode(), digest_size=32).digest()
    known: dict[str, float] = {}
    return np.array([_draw(_text(value), key, known) for value in np.asarray(ids, dtype=object).tolist()])


def _draw(text: str, key: bytes, known: dict[str, float]) -> float:
    if text not in known:
        digest = hashlib.blake2b(text.encode(), key=key, digest_size=8).digest()
        known[text] = math.ldexp(int.from_bytes(digest, "big") >> 11, -53)
    return known[text]


def _text(value: Any) -> str:
    """One spelling of equal ids, also of numpy's numbers, 1 and 1.0."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return f"{type(value).__name__}:{value}"
