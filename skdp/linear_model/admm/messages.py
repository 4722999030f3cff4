"""What crosses between a site and the coordinator: three kinds of messages, written to be checked.

A message is ``b"SKDP-ADMM"``, the version and the length of its header as two big-endian unsigned 16-bit numbers, the
header as JSON in UTF-8, and the numbers as little-endian float64. The header says its kind and who speaks about what;
the numbers are coefficients of the agreed shape, row by row.

====== ======================================== =============== =====================================
kind   from, to                                 numbers         header
====== ======================================== =============== =====================================
join   a site, the coordinator                  none            site, terms, rows, multiplier
call   the coordinator, all sites               common model    terms, round
reply  a site, the coordinator                  site's model    site, terms, round, after
====== ======================================== =============== =====================================

Nothing of a site's rows is in any message but what noise covers: `rows`, their number, is public (declared under
add-remove), and so is the noise multiplier.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from skdp.accounting.checks import is_real
from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole
from skdp.exceptions import ProtocolError
from skdp.linear_model.admm.terms import Terms

__all__ = ["VERSION", "Call", "Join", "Reply", "read_message"]

VERSION = 1
_MAGIC = b"SKDP-ADMM"
_PREFIX = struct.Struct(">HH")
_LONGEST_HEADER = 4096
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Join:
    """A site takes part.

    Parameters
    ----------
    site : str
    terms : str
        Digest of the terms that it agreed to.
    rows : int
        Its public number of rows.
    multiplier : float
        Its noise multiplier; 0 is no noise.
    """

    site: str
    terms: str
    rows: int
    multiplier: float

    def to_bytes(self) -> bytes:
        """The written form."""
        return _write("join", vars(self), None)


@dataclass(frozen=True, eq=False)
class Call:
    """The coordinator asks for round `round`, from the common model after the last one.

    Parameters
    ----------
    terms : str
    round : int
        From 1; one more than the last asks for nothing and hands over the last common model.
    model : ndarray of shape (outputs, columns)
    """

    terms: str
    round: int
    model: np.ndarray

    def to_bytes(self) -> bytes:
        """The written form."""
        return _write("call", {"terms": self.terms, "round": self.round}, self.model)


@dataclass(frozen=True, eq=False)
class Reply:
    """A site's noisy model after a round.

    Parameters
    ----------
    site : str
    terms : str
    round : int
    after : int
        The round that this site had answered before; 0 for none.
    model : ndarray of shape (outputs, columns)
    """

    site: str
    terms: str
    round: int
    after: int
    model: np.ndarray

    def to_bytes(self) -> bytes:
        """The written form."""
        header = {"site": self.site, "terms": self.terms, "round": self.round, "after": self.after}
        return _write("reply", header, self.model)


def read_message(data: bytes, kind: type, terms: Terms) -> Any:
    """Read a message of one kind about the given terms.

    Parameters
    ----------
    data : bytes
    kind : type
        `Join`, `Call` or `Reply`.
    terms : Terms

    Returns
    -------
    Join, Call or Reply

    Raises
    ------
    ProtocolError
        For anything but a whole, finite message of that kind, version and agreement.
    """
    if isinstance(data, (bytes, bytearray, memoryview)) and len(data) > _LONGEST_HEADER + 64 + 8 * math.prod(
        terms.shape
    ):
        raise ProtocolError(f"a message of {len(data)} bytes is longer than any about these terms")
    header, payload = _split(data)
    expected = {Join: "join", Call: "call", Reply: "reply"}[kind]
    found = header.pop("kind", None)
    if found != expected:
        raise ProtocolError(f"a message of kind {shown(found)} came where one of kind {expected!r} is due")
    names = {field: kind.__dataclass_fields__[field].type for field in kind.__dataclass_fields__ if field != "model"}
    if set(header) != set(names):
        raise ProtocolError(f"a {expected} must say {', '.join(names)}; wrong: {sorted(set(header) ^ set(names))[:5]}")
    for name, declared in names.items():
        _check(expected, name, header[name], declared)
    if header["terms"] != terms.digest:
        raise ProtocolError(
            f"a {expected} speaks of other terms ({shown(header['terms'])[:14]}... instead of {terms.digest[:12]}...): "
            "compare Terms.to_dict() on both sides"
        )
    if kind is Join:
        if payload:
            raise ProtocolError("a join holds numbers, but is to hold none")
        return Join(**header)
    size = 8 * math.prod(terms.shape)
    if len(payload) != size:
        raise ProtocolError(f"a {expected} holds {len(payload)} bytes of numbers instead of {size}")
    model = np.frombuffer(payload, dtype="<f8").astype(float).reshape(terms.shape)
    if not np.isfinite(model).all():
        raise ProtocolError(f"a {expected} holds numbers that are not finite")
    return kind(**header, model=model)


def _write(kind: str, header: dict[str, Any], model: np.ndarray | None) -> bytes:
    text = json.dumps({"kind": kind, **header}, allow_nan=False).encode()
    numbers = b"" if model is None else np.ascontiguousarray(model, dtype="<f8").tobytes()
    return _MAGIC + _PREFIX.pack(VERSION, len(text)) + text + numbers


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    start = len(_MAGIC) + _PREFIX.size
    if (
        not isinstance(data, (bytes, bytearray, memoryview))
        or bytes(data[: len(_MAGIC)]) != _MAGIC
        or len(data) < start
    ):
        raise ProtocolError("this is no message of a private ADMM, or it was cut off")
    version, length = _PREFIX.unpack(data[len(_MAGIC) : start])
    if version != VERSION:
        raise ProtocolError(f"a message of version {version}, but this skdp speaks version {VERSION}: install one skdp")
    if length > _LONGEST_HEADER or len(data) < start + length:
        raise ProtocolError("a message's header is too long or cut off")
    try:
        header = json.loads(bytes(data[start : start + length]))
    except (ValueError, RecursionError):
        raise ProtocolError("a message's header is no JSON") from None
    if not isinstance(header, dict):
        raise ProtocolError("a message's header is no JSON object")
    return header, bytes(data[start + length :])


def _check(kind: str, name: str, value: Any, declared: str) -> None:
    good = {
        "str": lambda: isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME,
        "int": lambda: is_whole(value, 0) and value < 2**53,
        "float": lambda: is_real(value) and 0 <= value < math.inf,
    }[declared]()
    if not good:
        raise ProtocolError(f"a {kind} says {name}={shown(value)}, which is no {declared} that makes sense")
