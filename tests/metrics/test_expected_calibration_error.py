"""Expected calibration error: known values, edges, invariances and refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skdp.metrics import expected_calibration_error as ece


def test_calibrated_predictions_are_near_zero_and_distorted_ones_are_not():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=100_000)
    y = (rng.uniform(size=len(p)) < p).astype(int)
    # Each of the 8 used bins errs by about sqrt(.19 * 8 / n) = .004, so their mean is below .01 by over 5 sd.
    assert ece(y, p) < 0.01
    assert ece(y, p**2) > 0.05


def test_constant_confidence():
    assert ece([0, 1] * 50, np.full(100, 0.9)) == pytest.approx(0.4)


def test_certainty_lies_in_the_last_bin():
    assert ece([1, 1, 0, 0], [1.0, 1.0, 1.0, 1.0]) == 0.5
    assert ece([1, 1], [1.0, 1.0], labels=[0, 1]) == 0
    # 1.0 shares its bin with .97, where overconfidence and underconfidence cancel, and not with a bin beyond.
    assert ece([1, 0], [1.0, 0.97], n_bins=15) == pytest.approx(0.97 / 2)


def test_binned_by_hand():
    # Confidences .6 (right), .7 (wrong) | .8 (right), .9 (right) in 4 bins of width 1/4.
    p = np.array([0.6, 0.7, 0.8, 0.1])
    assert ece([1, 0, 1, 0], p, n_bins=4) == pytest.approx(abs(1 - 1.3) / 4 + abs(2 - 1.7) / 4)
    assert ece([1, 0, 1, 0], p, n_bins=1) == pytest.approx(abs(3 / 4 - 3 / 4))


def test_a_confidence_on_an_edge_lies_in_the_upper_bin():
    assert ece([1, 0], [0.75, 0.9], n_bins=4) == pytest.approx(abs(0.25 - 0.9) / 2)


def test_top_label_of_several_classes():
    proba = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    assert ece(["a", "b", "a"], proba, labels=["a", "b", "c"], n_bins=10) == pytest.approx((0.3 + 0.2 + 0.4) / 3)


def test_quantile_bins_hold_equal_shares():
    p = np.array([0.51, 0.52, 0.53, 0.9])
    y = [1, 0, 1, 0]
    assert ece(y, p, n_bins=2, strategy="quantile") == pytest.approx((abs(1 - 1.03) + abs(1 - 1.43)) / 4)


def test_one_dimension_is_the_greater_label_and_equals_two():
    rng = np.random.default_rng(1)
    p, y = rng.uniform(size=50), rng.choice(["no", "yes"], 50)
    assert ece(y, p) == ece(y, np.column_stack([1 - p, p]))
    assert ece(["yes"] * 2, [1, 1], labels=["no", "yes"]) == 0


def test_inputs_of_other_types():
    expected = ece([0, 1, 1], [0.2, 0.7, 0.4])
    assert ece(pd.Series(["<=50K", ">50K", ">50K"]), pd.Series([0.2, 0.7, 0.4])) == expected
    assert ece([False, True, True], np.array([0.2, 0.7, 0.4], dtype=np.float32)) == pytest.approx(expected, abs=1e-6)
    assert isinstance(expected, float)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 3)), min_size=1, max_size=30),
    st.randoms(),
)
def test_bounded_permutation_invariant_and_weights_are_repetitions(rows, random):
    y, p, w = (np.array(part) for part in zip(*rows, strict=True))
    value = ece(y, p, labels=[False, True])
    assert 0 <= value <= 1
    order = list(range(len(rows)))
    random.shuffle(order)
    assert ece(y[order], p[order], labels=[False, True]) == pytest.approx(value)
    if w.sum():
        repeated = ece(np.repeat(y, w), np.repeat(p, w), labels=[False, True])
        assert ece(y, p, labels=[False, True], sample_weight=w) == pytest.approx(repeated)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y_proba": [0.1, 1.2]}, "outside"),
        ({"y_proba": [[0.5, 0.6], [0.5, 0.5]]}, "sum to 1"),
        ({"y_proba": [0.1, np.nan]}, "NaN"),
        ({"y_proba": [0.1]}, "inconsistent"),
        ({"y_proba": [0.1, 0.2], "n_bins": 0}, "n_bins=0"),
        ({"y_proba": [0.1, 0.2], "n_bins": 2.5}, "n_bins=2.5"),
        ({"y_proba": [0.1, 0.2], "strategy": "equal"}, "'equal'"),
        ({"y_proba": [0.1, 0.2], "labels": [0, 2]}, "not in labels"),
        ({"y_proba": [[0.2, 0.3, 0.5]] * 2}, "3 classes.*labels="),
        ({"y_proba": [0.1, 0.2], "sample_weight": [0, 0]}, "non-zero"),
        ({"y_proba": [0.1, 0.2], "sample_weight": [1, -1]}, "[Nn]egative"),
    ],
)
def test_refusals(arguments, words):
    with pytest.raises(ValueError, match=words):
        ece([0, 1], **arguments)


def test_one_label_alone_is_ambiguous():
    assert ece([1, 1], [1, 1]) == 0
    with pytest.raises(ValueError, match="labels="):
        ece(["yes", "yes"], [1, 1])
