"""The charge and statements that several tests share, on the import path."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def stopped():
    from statements import stated

    return stated(executed={"gradient": 300, "scaler": 1})
