"""Under on_invalid="null" a row, whatever it holds, nulls only itself: no number, error or warning beside it moves."""

from __future__ import annotations

import warnings
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_fits import SEEDED, classifier, regressor
from sklearn.base import clone

from skdp import DPClassifier, DPRegressor
from skdp.neural_network.parameters import bounds_array
from skdp.neural_network.problem import classification_problem, regression_problem
from skdp.neural_network.scaling import scale_targets


class Stubborn(float):
    """A number that refuses to be one."""

    def __float__(self):
        raise RuntimeError("secret")


class NoArray:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("secret")


LOOP: list = []
LOOP.append(LOOP)
ODD = [
    "x", "1_000", "True", "1e400", "9" * 5000, "\0", np.str_("x"), b"1", b"\xff", None, pd.NA, pd.NaT, float("nan"),
    float("inf"), 1j, np.complex128(1 + 2j), (1, 2), ([1],), [1], [], [1, [2]], {}, {1}, LOOP, 10**400, -(10**400),
    2**63, 2**64, -(2**63), Decimal("1.5"), Decimal("sNaN"), Decimal("1e99999"), Fraction(10**400, 3),
    np.datetime64("2020", "ns"), np.timedelta64(3, "ns"), datetime(2020, 1, 1), date(2020, 1, 1),
    pd.Timestamp("2020"), True, np.bool_(True), np.float32(0.1), np.longdouble("1e4000"), np.array([1.0]),
    np.array([[1.0, 2.0]]), np.array(3), torch.tensor(1.0), torch.tensor([1.0, 2.0], requires_grad=True), Stubborn(1),
    NoArray(), object(), np.void(b"abc"), pd.Series([1, 2]), pd.DataFrame({"a": [1]}), range(2), float, 1e300, 1e-320,
]  # fmt: skip
anything = st.sampled_from(ODD) | st.integers() | st.floats() | st.text() | st.complex_numbers() | st.binary()
rows = st.integers(0, 4)


def objects(cells):
    array = np.empty(len(cells), dtype=object)
    for i, cell in enumerate(cells):
        array[i] = cell
    return array


def object_table(table):
    return np.column_stack([objects(column) for column in zip(*table, strict=True)])


TABLE = [[True, 1.5, 3], ["2_0", 2.5, "4"], [0.1, -1, 2**53 + 1], [False, 7, np.float32(0.1)], ["x", 0, 1]]
NUMBERS = np.arange(15.0).reshape(5, 3)
TABLES = {
    "lists": lambda table: table,
    "tuples": lambda table: tuple(map(tuple, table)),
    "objects": object_table,
    "frame of objects": lambda table: pd.DataFrame(object_table(table), columns=list("abc")),
    # Series infer a type of their own, which one cell can change.
    "inferred frame": lambda table: pd.DataFrame({i: pd.Series([row[i] for row in table]) for i in range(3)}),
}
COLUMNS = {"list": list, "tuple": tuple, "objects": objects, "series": lambda cells: pd.Series(objects(cells))}
LABELS = {
    "numbers": ([0, 1], [0, 1, True, "1", 1.0]),
    "large numbers": ([2**53, 2**53 + 1], [2**53, 2**53 + 1, 0, 1, 2**53 + 1]),
    "text": (["a", "b"], ["a", "b", "a", "b", "c"]),
    "bytes": ([b"a", b"b"], [b"a", b"b", b"a", b"b", b"b"]),
}
AMOUNTS = [0, 1.5, True, "1_0", 2**53 + 1]


def replaced(cells, row, cell):
    return [cell if i == row else old for i, old in enumerate(cells)]


def classes_of(X, y, weights=None, classes=(0, 1)):
    return classification_problem(DPClassifier(classes=list(classes), on_invalid="null"), X, y, weights)


def targets_of(y):
    return regression_problem(DPRegressor(on_invalid="null"), NUMBERS, y, None)


def assert_only_this_row_moves(read, before, after, row):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, two = read(before), read(after)
    assert one.public == two.public
    others = np.arange(5) != row
    for a, b in ((one.inputs, two.inputs), (one.targets, two.targets), (1.0 - one.null, 1.0 - two.null)):
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a[others].tobytes() == b[others].tobytes()
    ones = np.ones(5)
    weights = [ones if problem.weights is None else problem.weights for problem in (one, two)]
    assert weights[0][others].tobytes() == weights[1][others].tobytes()


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
@settings(max_examples=150, deadline=None)
@given(rows, st.sets(st.integers(0, 2), min_size=1), anything)
def test_cells_of_a_row(make, row, columns, cell):
    changed = replaced(TABLE, row, [cell if j in columns else old for j, old in enumerate(TABLE[row])])
    assert_only_this_row_moves(lambda X: classes_of(X, [0, 1, 1, 0, 1]), make(TABLE), make(changed), row)


@settings(max_examples=100, deadline=None)
@given(rows, anything)
def test_a_row_that_is_no_row(row, thing):
    assert_only_this_row_moves(lambda X: classes_of(X, [0, 1, 1, 0, 1]), TABLE, replaced(TABLE, row, thing), row)


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize(("classes", "labels"), LABELS.values(), ids=LABELS)
@settings(max_examples=60, deadline=None)
@given(rows, anything)
def test_a_label(make, classes, labels, row, label):
    def read(y):
        return classes_of(NUMBERS, y, classes=classes)

    assert_only_this_row_moves(read, make(labels), make(replaced(labels, row, label)), row)


@pytest.mark.parametrize("make", COLUMNS.values(), ids=COLUMNS)
@settings(max_examples=100, deadline=None)
@given(rows, anything)
def test_a_target_or_weight(make, row, amount):
    changed = make(replaced(AMOUNTS, row, amount))
    assert_only_this_row_moves(targets_of, make(AMOUNTS), changed, row)
    assert_only_this_row_moves(lambda w: classes_of(NUMBERS, [0, 1, 1, 0, 1], w), make(AMOUNTS), changed, row)


def test_every_cell_is_read_alike_wherever_it_stands():
    expected = [[1, 1.5, 3], [20, 2.5, 4], [0.1, -1, 2.0**53], [0, 7, float(np.float32(0.1))]]
    for make in TABLES.values():
        inputs = classes_of(make(TABLE), [0, 1, 1, 0, 1]).inputs
        np.testing.assert_array_equal(inputs, [*expected, [0, 0, 0]])  # the last row is null


def test_inferred_classes_keep_their_type():
    for y, kind in (([0, 1, 1, 0, 1], "i"), ([True, False] * 2 + [True], "b"), (pd.array([0, 1, 1, 0, 1]), "i")):
        with pytest.warns(UserWarning, match="classes were read from y"):
            problem = classification_problem(DPClassifier(on_invalid="null"), NUMBERS, y, None)
        assert problem.classes.dtype.kind == kind


# ------------------------------------------------------------------ what is declared is public, and refused for nothing
DECLARED = [
    pd.Series(list("vwxyz"), dtype="string"),
    pd.Series(list("vwxyz"), dtype="str"),
    pd.Series(list("vwxyz"), dtype="category"),
    pd.Series(pd.to_datetime(["2020-01-01"] * 5)),
    pd.Series(pd.to_timedelta(["1 day"] * 5)),
]


@pytest.mark.parametrize("column", DECLARED, ids=lambda column: str(column.dtype))
@pytest.mark.parametrize("on_invalid", ["null", "raise"])
def test_columns_that_declare_no_numbers_are_refused(column, on_invalid):
    table = pd.DataFrame(NUMBERS, columns=list("abc")).assign(city=column)
    with pytest.raises(ValueError, match=r"columns \['city'\] hold text or dates; encode them first"):
        DPClassifier(classes=[0, 1], on_invalid=on_invalid).fit(table, [0, 1, 1, 0, 1])
    with pytest.raises(ValueError, match="y must be numeric for a regressor"):
        DPRegressor(on_invalid=on_invalid).fit(NUMBERS, column)
    with pytest.raises(ValueError, match="sample_weight must be numeric"):
        DPRegressor(on_invalid=on_invalid).fit(NUMBERS, np.arange(5), sample_weight=column)


@pytest.mark.parametrize("on_invalid", ["null", "raise"])
def test_arrays_that_declare_no_numbers_are_refused(on_invalid):
    for X in (NUMBERS.astype(str), NUMBERS.astype("S"), NUMBERS.astype("datetime64[s]")):
        with pytest.raises(ValueError, match="X holds text or dates"):
            DPClassifier(classes=[0, 1], on_invalid=on_invalid).fit(X, [0, 1, 1, 0, 1])


@pytest.mark.parametrize("y", [np.array(list("01101")), pd.Series(list("01101"), dtype="str")], ids=["array", "series"])
def test_labels_that_declare_text_never_match_numbers(y):
    for on_invalid in ("null", "raise"):
        with pytest.raises(ValueError, match=r"classes=\[0, 1\] are numbers, but the labels in y are text"):
            DPClassifier(classes=[0, 1], on_invalid=on_invalid).fit(NUMBERS, y)


def test_labels_of_objects_are_not_looked_at_as_a_whole():
    """All of them text, or all but one: an error would tell the two apart."""
    for y in (list("01101"), [0, *"1101"]):
        assert classes_of(NUMBERS, y).null.sum() == 5 - (y[0] == 0)


# ------------------------------------------------------------------ whole fits
@pytest.mark.parametrize("rows", [(), (0,)], ids=["no null row", "a null row"])
def test_targets_of_three_dimensions_are_refused_whatever_they_hold(rows):
    y = np.zeros((5, 2, 2))
    y[list(rows)] = np.nan
    with pytest.raises(ValueError, match=r"its rows have shape \(2, 2\)"):
        regression_problem(DPRegressor(on_invalid="null"), NUMBERS, y, None)


@pytest.mark.parametrize("weight", [1e300, 10**400, "much", 1e-300, np.longdouble("1e4000"), 1j])
@pytest.mark.filterwarnings("error", "ignore::skdp.exceptions.InsecureNoiseWarning")
def test_a_fit_says_nothing_about_one_odd_weight(blobs, weight):
    X, y = blobs
    model = classifier(on_invalid="null", epsilon=10.0, **SEEDED)
    model.fit(X, y, sample_weight=objects([weight, *[1.0] * 399]))
    if weight != 1e300:  # too large for float64, or for float32 too small, or no number: the null row
        nulled = clone(model).fit(X, y, sample_weight=np.r_[0.0, np.ones(399)])
        assert all(
            torch.equal(a, b) for a, b in zip(model.module_.parameters(), nulled.module_.parameters(), strict=True)
        )


@pytest.mark.filterwarnings("error")
def test_a_fit_says_nothing_about_one_huge_target(slope):
    X, y = slope
    regressor(on_invalid="null", epsilon=10.0, y_bounds=(-8e307, 8e307)).fit(X, np.r_[1.7e308, y[1:]])


def test_bounds_of_any_finite_width_scale_without_overflow():
    with np.errstate(all="raise"):
        scaled = scale_targets(np.array([-1.7e308, 0.0, 8e307]), np.array([[-8e307, 8e307]]))
    assert scaled.tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match=r"y_bounds: column 0 .* high - low finite"):
        bounds_array("y_bounds", (-1e308, 1e308), 1)
