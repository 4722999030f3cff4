"""Splits of rows that depend on public values alone."""

from __future__ import annotations

from skdp.model_selection.splits import PublicGroupKFold, PublicKFold, check_splitter, public_train_test_split

__all__ = ["PublicGroupKFold", "PublicKFold", "check_splitter", "public_train_test_split"]
