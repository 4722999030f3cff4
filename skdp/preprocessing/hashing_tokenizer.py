"""Texts as rows of hashed tokens, without a vocabulary that was read off the texts."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from skdp.contract import Charge
from skdp.contract.whole_numbers import is_whole
from skdp.neural_network.cells import missing

__all__ = ["HashingTokenizer"]

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class HashingTokenizer(TransformerMixin, BaseEstimator):
    """Texts to integer tokens by hashing words into a public number of buckets; learns nothing from the texts.

    A row holds the buckets of the text's distinct terms in the order of their first occurrence, then zeros. Terms are
    lower-cased words and, with ``bigrams=True``, pairs of neighbouring words.

    Parameters
    ----------
    n_buckets : int, default=16384
        Tokens are 1 to ``n_buckets - 1``; 0 is padding. Public.
    max_tokens : int, default=512
        Terms of a text that are kept. Public.
    bigrams : bool, default=False
        Whether pairs of neighbouring words are terms, too. All words come before all pairs.
    on_invalid : {"raise", "null"}, default="raise"
        Rows that are neither a text nor missing (numbers, bytes, lists): an error that names their types and no value,
        or empty texts, without a word.

    Attributes
    ----------
    n_features_in_ : int
        1, the column of texts.

    Notes
    -----
    *Formal guarantee*: each output row is a function of its text and of public numbers, so the transformer costs no
    privacy (`privacy_charge` is empty). A vocabulary, or inverse document frequencies, would be read off all rows.
    Missing rows (None, NaN) are empty texts. An error is outside of this: that one came, or none, tells whether a row
    is no text. Where that is private as well, pass ``on_invalid="null"``, as to the estimators. A type that X declares
    for all its rows is public, and always an error where it is none of texts.

    Hashes are CRC-32 of the UTF-8 bytes, the same in every process and on every machine.

    References
    ----------
    Weinberger et al., *Feature hashing for large scale multitask learning*, ICML 2009.

    Examples
    --------
    >>> from skdp.preprocessing import HashingTokenizer
    >>> tokens = HashingTokenizer(n_buckets=1000, max_tokens=4).fit_transform(["A good film, a GOOD day", "good"])
    >>> tokens.shape, bool(tokens[1, 0] == tokens[0, 1]), tokens[1, 1:].tolist()
    ((2, 4), True, [0, 0, 0])
    """

    def __init__(self, n_buckets: int = 16384, max_tokens: int = 512, bigrams: bool = False, on_invalid: str = "raise"):
        self.n_buckets = n_buckets
        self.max_tokens = max_tokens
        self.bigrams = bigrams
        self.on_invalid = on_invalid

    def fit(self, X: Any, y: Any = None) -> HashingTokenizer:
        """Check the parameters, and that rows are texts; nothing else is read.

        Parameters
        ----------
        X : list, array or column of n texts, or a table of one column
        y : None
            Ignored.

        Returns
        -------
        HashingTokenizer
            Itself.

        Raises
        ------
        ValueError
            For impossible parameters, or X of more than one column.
        TypeError
            For rows of numbers or other objects.
        """
        for name, least in (("n_buckets", 2), ("max_tokens", 1)):
            value = getattr(self, name)
            if not is_whole(value, least):
                raise ValueError(f"HashingTokenizer({name}={value!r}) must be a whole number of at least {least}")
        if not isinstance(self.bigrams, bool | np.bool_):
            raise ValueError(f"HashingTokenizer(bigrams={self.bigrams!r}) must be True or False")
        if self.on_invalid not in ("raise", "null"):
            raise ValueError(f"HashingTokenizer(on_invalid={self.on_invalid!r}) must be 'raise' or 'null'")
        texts = _column(X)
        if self.on_invalid == "raise":
            _check_texts(texts)
        self.n_features_in_ = 1
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Tokens of each text.

        Parameters
        ----------
        X : list, array or column of n texts, or a table of one column

        Returns
        -------
        ndarray of int64, shape (n, max_tokens)
        """
        self.fit(X)  # there is nothing to remember, only parameters to check
        texts, known = _column(X), {}
        tokens = np.zeros((len(texts), self.max_tokens), dtype=np.int64)
        for row, text in zip(tokens, texts, strict=True):
            found = list(dict.fromkeys(self._bucket(term, known) for term in self._terms(text)))[: self.max_tokens]
            row[: len(found)] = found
        return tokens

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the outputs, ``token0`` and so on.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str
        """
        return np.array([f"token{i}" for i in range(self.max_tokens)], dtype=object)

    def privacy_charge(self, public: Any, scale: float) -> Charge:
        """Nothing: each row is encoded by itself.

        Parameters
        ----------
        public : Public
        scale : float

        Returns
        -------
        Charge
        """
        return Charge((), public.adjacency, public.unit)

    def _terms(self, text: Any) -> list[str]:
        if not isinstance(text, str):
            return []
        words = _WORD.findall(text.lower())
        return words + [f"{a} {b}" for a, b in zip(words, words[1:], strict=False)] if self.bigrams else words

    def _bucket(self, term: str, known: dict[str, int]) -> int:
        bucket = known.get(term)
        if bucket is None:
            bytes_ = term.encode("utf-8", "surrogatepass")
            bucket = known[term] = 1 + zlib.crc32(bytes_) % (self.n_buckets - 1)
        return bucket

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        return tags


def _column(X: Any) -> Any:
    """One dimension of texts."""
    if isinstance(X, str):
        raise ValueError("X is a single text; pass a list, array or column of texts")
    if hasattr(X, "columns"):  # a table
        X = X.to_numpy()
    elif hasattr(X, "to_numpy"):
        X = X.to_numpy()
    if X is None or getattr(getattr(X, "dtype", None), "kind", "O") in "biufcmM":
        found = "None" if X is None else f"an array of {X.dtype}"
        raise TypeError(f"X is {found}; HashingTokenizer takes one column of texts")
    shape = np.shape(X) if isinstance(X, np.ndarray) else (len(X),)
    if len(shape) == 2 and shape[1] == 1:
        return X[:, 0].tolist()
    if len(shape) != 1:
        raise ValueError(f"X has shape {shape}; HashingTokenizer takes one column of texts")
    return list(X)


def _check_texts(texts: list) -> None:
    """Refuse rows that are neither texts nor missing, by their types alone."""
    others = [text for text in texts if not isinstance(text, str)]
    cells = np.empty(len(others), dtype=object)
    for i, other in enumerate(others):  # one by one, for a list of lists would be taken for a matrix
        cells[i] = other
    odd = {type(other) for other in cells[~missing(cells)]}
    if odd:
        remedy = "numbers and tables go to skdp.preprocessing.SchemaEncoder"
        if all(issubclass(kind, bytes) for kind in odd):
            remedy = "decode them"
        names = ", ".join(sorted(kind.__name__ for kind in odd))
        raise TypeError(
            f"X holds rows of type {names}, and HashingTokenizer takes texts (str); {remedy}, or pass "
            "on_invalid='null' to take such rows as empty texts"
        )
