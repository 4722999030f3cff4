"""The bundled census data: counts as published, types, and a schema that covers every row."""

from __future__ import annotations

import dataclasses
import io
import os
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from skdp.datasets import load_adult
from skdp.preprocessing import SchemaEncoder


@pytest.fixture(scope="module")
def adult():
    return load_adult()


def test_counts_are_the_published_ones(adult):
    assert adult.X_train.shape == (32561, 14)
    assert adult.X_test.shape == (16281, 14)
    assert (adult.y_train == ">50K").sum() == 7841
    assert (adult.y_test == ">50K").sum() == 3846
    complete = adult.data.notna().all(axis=1)
    assert complete[:32561].sum() == 30162 and complete[32561:].sum() == 15060


def test_first_and_last_rows_are_those_of_the_original_files(adult):
    first = [
        39,
        "State-gov",
        77516,
        "Bachelors",
        13,
        "Never-married",
        "Adm-clerical",
        "Not-in-family",
        "White",
    ]
    assert adult.X_train.iloc[0].tolist() == [*first, "Male", 2174, 0, 40, "United-States"]
    assert adult.X_test.iloc[0, :4].tolist() == [25, "Private", 226802, "11th"]
    assert adult.X_test.iloc[-1, :4].tolist() == [35, "Self-emp-inc", 182148, "Bachelors"]
    assert adult.y_test.iloc[-1] == ">50K"


def test_types_and_missing_values(adult):
    numeric = [c.name for c in adult.schema if c.kind == "numeric"]
    assert all(adult.X_train[name].dtype == np.int64 for name in numeric)
    gaps = adult.data.isna().sum()
    assert gaps[gaps > 0].to_dict() == {"workclass": 2799, "occupation": 2809, "native-country": 857}
    assert set(adult.y_train) == set(adult.classes) and adult.classes == tuple(sorted(adult.classes))


def test_schema_names_every_column_category_and_gap(adult):
    assert adult.schema.names == tuple(adult.X_train.columns)
    encoder = SchemaEncoder(adult.schema, unknown="raise")
    assert encoder.fit(adult.X_train).transform(adult.data).shape == (48842, 108)
    strict = SchemaEncoder(adult.schema.without("fnlwgt"), unknown="raise", out_of_bounds="raise")
    strict.fit(adult.X_train).transform(adult.data)


def test_schema_says_where_each_entry_comes_from(adult):
    assert all(column.source for column in adult.schema)


def test_schema_is_documentation_and_not_a_summary_of_the_rows(adult):
    # Bounds read off the rows would touch all of them.
    assert adult.data["capital-loss"].max() < adult.schema["capital-loss"].high
    assert adult.data["fnlwgt"].max() > adult.schema["fnlwgt"].high


def test_views_agree(adult):
    assert adult.frame.shape == (48842, 15)
    assert adult.frame.columns[-1] == "income"
    pd.testing.assert_frame_equal(adult.data.iloc[:32561], adult.X_train)
    X, y = load_adult(return_X_y=True)
    pd.testing.assert_frame_equal(X, adult.X_train)
    pd.testing.assert_series_equal(y, adult.y_train)


def test_is_frozen_and_carries_its_licence(adult):
    with pytest.raises(dataclasses.FrozenInstanceError):
        adult.X_train = None
    assert "CC BY 4.0" in adult.DESCR and "Becker" in adult.DESCR


def test_loads_do_not_share_memory():
    one = load_adult()
    one.X_train.loc[0, "age"] = -5
    assert load_adult().X_train.loc[0, "age"] == 39


def test_package_ships_small_plain_files():
    files = {f.name: len(f.read_bytes()) for f in (resources.files("skdp.datasets") / "data").iterdir()}
    assert set(files) == {"adult.csv.xz", "ADULT_ATTRIBUTION.txt"}
    assert sum(files.values()) < 500_000


@pytest.mark.skipif("SKDP_DATA_DIR" not in os.environ, reason="needs the original files under SKDP_DATA_DIR")
def test_every_value_equals_the_original_files(adult):
    folder = Path(os.environ["SKDP_DATA_DIR"]) / "adult"
    lines = (folder / "adult.data").read_text().split("\n")
    lines += [line.rstrip(".") for line in (folder / "adult.test").read_text().split("\n")[1:]]
    original = "\n".join(line.replace(", ", ",") for line in lines if line)
    buffer = io.StringIO()
    adult.frame.to_csv(buffer, index=False, header=False, na_rep="?", lineterminator="\n")
    assert buffer.getvalue().strip() == original
