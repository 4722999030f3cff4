"""Rows are encoded in pieces and in the smallest exact type, and that changes no number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from skdp.neural_network import reading, scaling
from skdp.neural_network.cells import as_numbers, float_type
from skdp.neural_network.scaling import as_inputs, as_rows, scale_inputs


@pytest.mark.parametrize("rows", [0, 1, 99, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaling_in_pieces_is_scaling(rows, dtype, monkeypatch):
    monkeypatch.setattr(scaling, "_CELLS", 21)
    inputs = np.random.default_rng(0).normal(0, 9, (rows, 3)).astype(dtype)
    bounds = np.array([[-1.0, 1.0], [0.0, 1e9], [3.0, 3.5]])
    whole = as_inputs(scale_inputs(inputs.astype(np.float64), bounds))
    assert as_rows(inputs, bounds).equal(whole)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_net_never_holds_the_users_own_array(dtype):
    inputs = np.ones((5, 2), dtype)
    as_rows(inputs, None).zero_()
    assert (inputs == 1).all()


def test_invalid_rows_in_pieces(monkeypatch):
    monkeypatch.setattr(reading, "_CELLS", 7)
    inputs = np.zeros((20, 3))
    inputs[[2, 11], 1], inputs[19, 2], inputs[5, 0] = np.nan, np.inf, 1e39
    assert np.flatnonzero(reading.odd_rows(inputs)).tolist() == [2, 5, 11, 19]


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [("bool", "f4"), ("int16", "f4"), ("uint16", "f4"), ("float32", "f4"), ("int32", "f8"), ("int64", "f8"),
     ("float64", "f8"), ("object", "f8"), (pd.BooleanDtype(), "f4"), (pd.Int64Dtype(), "f8"),
     (pd.Float32Dtype(), "f4")],
)  # fmt: skip
def test_the_smallest_type_that_holds_every_value(dtype, kind):
    assert float_type(np.dtype(dtype) if isinstance(dtype, str) else dtype) == np.dtype(kind)


@pytest.mark.parametrize(("dtype", "kind"), [("float32", "f4"), ("float64", "f8")])
def test_mixed_tables_are_read_exactly(dtype, kind):
    numbers = np.array([0.1, np.nan, 3e30, 16777217.0]).astype(dtype)
    flags = pd.array([True, None, False, True], dtype="boolean")
    read = as_numbers("X", pd.DataFrame({"a": numbers, "b": [True, False, True, True], "c": flags}), "raise").to_numpy()
    assert read.dtype == np.dtype(kind)
    np.testing.assert_array_equal(read[:, 0], numbers)
    np.testing.assert_array_equal(read[:, 1:], [[1, 1], [0, np.nan], [1, 0], [1, 1]])
