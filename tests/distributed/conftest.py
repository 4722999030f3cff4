"""The scenarios that processes of a group play, on the import path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def pair(tmp_path_factory):
    """What two processes found in every quick scenario: dict of name to (of rank 0, of rank 1).

    In the last of them rank 1 dies.
    """
    from processes import play

    return play(2, "quick", tmp_path_factory.mktemp("pair"), survivors=[0])
