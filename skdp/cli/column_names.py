"""What the names of columns suggest. Names are public, so a guess by them costs nothing; a schema overrules it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from skdp.preprocessing.table_vectorizer import IDENTIFIER

__all__ = ["named_like_dates", "named_like_identifiers"]

_DATE = re.compile(
    r"(^|[^a-z])(date|dates|datetime|datum|timestamp|dob|birthday|birthdate)([^a-z]|$)|date$"
    r"|[^a-z](at|since|until)$|^(born|created|joined|updated|since|until)$"
)
_NO_DATE = ("update", "candidate", "mandate", "validate", "accommodate")


def named_like_identifiers(names: Iterable[str]) -> list[str]:
    """Names that are usually those of numbers of persons or records, which tell a model nothing.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    list of str

    Examples
    --------
    >>> named_like_identifiers(["customer_id", "width", "patientID", "paid", "phone"])
    ['customer_id', 'patientID', 'phone']
    """
    return [name for name in names if IDENTIFIER.search(name)]


def named_like_dates(names: Iterable[str]) -> list[str]:
    """Names that are usually those of dates.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    list of str

    Examples
    --------
    >>> named_like_dates(["signup_date", "orderDate", "created_at", "candidate", "state"])
    ['signup_date', 'orderDate', 'created_at']
    """
    lower = [(name, name.lower()) for name in names]
    return [name for name, low in lower if _DATE.search(low) and not low.endswith(_NO_DATE)]
