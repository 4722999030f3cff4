"""Parquet files and PyTorch datasets as mapped files: what comes out, when it is made anew, and what a crash leaves."""

from __future__ import annotations

import builtins
import subprocess
import sys
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from skdp import DPClassifier, DPRegressor
from skdp.datasets import open_rows, row_cache
from skdp.preprocessing import Column, Schema, SchemaEncoder

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
N = 300


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=N),
            "b": rng.integers(0, 100, N),
            "c": rng.random(N) < 0.5,
            "region": rng.choice(["north", "south"], N),
            "y": rng.integers(0, 2, N),
            "label": rng.choice(["no", "yes"], N),
        }
    )


@pytest.fixture
def parquet(tmp_path, table):
    pytest.importorskip("pyarrow")
    path = tmp_path / "table.parquet"
    table.to_parquet(path, row_group_size=70)
    return path


def options(tmp_path, **more):
    return {"target": "y", "columns": ["a", "b", "c"], "cache": tmp_path / "cache", **more}


# ------------------------------------------------------------------ Parquet
def test_round_trip(tmp_path, parquet, table):
    rows = open_rows(parquet, **options(tmp_path))
    expected = table[["a", "b", "c"]].to_numpy(np.float64).astype(np.float32)
    np.testing.assert_array_equal(rows.X.to_numpy(), expected)
    np.testing.assert_array_equal(rows.y, table["y"])
    assert list(rows.X.columns) == ["a", "b", "c"] and len(rows) == N and not rows.reused and rows.seconds > 0
    assert "converted in" in repr(rows) and (rows.folder.stat().st_mode & 0o077) == 0
    again = open_rows(parquet, **options(tmp_path))
    assert again.reused and "reused" in repr(again) and again.seconds == rows.seconds
    fast = {"classes": [0, 1], "feature_bounds": (-3, 100), "insecure_noise_seed": 0, "random_state": 0}
    one = DPClassifier("linear", **fast).fit(rows.X, rows.y)
    two = DPClassifier("linear", **fast).fit(rows.X.to_numpy().copy(), table["y"])
    assert list(one.feature_names_in_) == ["a", "b", "c"]
    np.testing.assert_allclose(one.predict_proba(rows.X), two.predict_proba(expected), rtol=1e-6)
    assert one.privacy_.epsilon == two.privacy_.epsilon


def test_all_columns_several_targets_and_missing_numbers(tmp_path, parquet, table):
    table = table.drop(columns=["region", "label"]).astype({"b": "Int64"})
    table.loc[[3, 200], "b"] = pd.NA
    table.loc[5, "a"] = np.nan
    table.loc[6, "a"] = 1e300
    table.to_parquet(parquet)
    rows = open_rows(parquet, target=["y", "a"], cache=tmp_path)
    assert list(rows.X.columns) == ["b", "c"] and rows.y.shape == (N, 2) and rows.y.dtype == np.float64
    assert np.flatnonzero(np.isnan(rows.X["b"])).tolist() == [3, 200] and np.isnan(rows.y[5, 1])
    rows = open_rows(parquet, target="y", cache=tmp_path)
    assert np.isinf(rows.X["a"][6])  # which `on_invalid` takes care of, as of NaN
    model = DPRegressor("linear", feature_bounds=(-3, 3), y_bounds=(0, 1), on_invalid="null").fit(rows.X, rows.y)
    assert model.n_features_in_ == 3


def test_a_schema_encodes_categories(tmp_path, parquet, table):
    schema = Schema([Column("region", categories=("north", "south", "west")), Column("a", low=-3, high=3)])
    more = {"target": "label", "classes": ["yes", "maybe"], "cache": tmp_path, "schema": schema}
    rows = open_rows(parquet, **more)
    encoder = SchemaEncoder(schema, dtype=np.float32).fit(table)
    np.testing.assert_array_equal(rows.X.to_numpy(), encoder.transform(table))
    assert list(rows.X.columns) == list(encoder.get_feature_names_out())
    np.testing.assert_array_equal(rows.feature_bounds, encoder.output_bounds_)
    np.testing.assert_array_equal(rows.y, np.where(table["label"] == "yes", 0, -1))
    assert rows.classes == ("yes", "maybe")
    assert open_rows(parquet, **more).reused
    other = Schema([Column("region", categories=("south", "north")), Column("a", low=-3, high=3)])
    assert not open_rows(parquet, **{**more, "schema": other}).reused
    DPClassifier("linear", classes=range(2), feature_bounds=rows.feature_bounds, on_invalid="null").fit(rows.X, rows.y)


@pytest.mark.parametrize("kind", ["category", "string"])
def test_labels_of_any_type_of_text(kind, tmp_path, parquet, table):
    table = table.astype({"label": kind})
    table.loc[4, "label"] = None
    table.to_parquet(parquet)
    rows = open_rows(parquet, target="label", columns=["a"], classes=["no", "yes"], cache=tmp_path)
    assert rows.y.tolist() == [{"no": 0, "yes": 1}.get(label, -1) for label in table["label"]]


def test_a_folder_of_files(tmp_path, parquet, table):
    folder = tmp_path / "parts"
    (folder / "later").mkdir(parents=True)
    for name, part in (("b.parquet", table[100:]), ("a.pq", table[:100]), ("later/c.parquet", table[:50])):
        part.to_parquet(folder / name)
    rows = open_rows(folder, **options(tmp_path))
    expected = pd.concat([table, table[:50]])
    np.testing.assert_array_equal(rows.y, expected["y"])
    np.testing.assert_array_equal(rows.X["b"], expected["b"])
    (folder / "later/c.parquet").unlink()
    fewer = open_rows(folder, **options(tmp_path))
    assert len(fewer) == N and not fewer.reused
    table.astype({"b": float}).to_parquet(folder / "z.parquet")
    with pytest.raises(ValueError, match="'z.parquet' declares other columns or types than 'a.pq'"):
        open_rows(folder, **options(tmp_path))


def test_a_changed_source_is_converted_anew(tmp_path, parquet, table):
    before = open_rows(parquet, **options(tmp_path))
    table.assign(a=table["a"] + 1).to_parquet(parquet)
    after = open_rows(parquet, **options(tmp_path))
    assert not after.reused and after.folder == before.folder
    np.testing.assert_allclose(after.X["a"], table["a"] + 1, rtol=1e-6)
    np.testing.assert_allclose(before.X["a"], table["a"], rtol=1e-6)  # who has it open keeps what is open


def test_a_source_that_changes_meanwhile_is_refused(tmp_path, parquet, table):
    honest = row_cache._write_arrays

    def meanwhile(folder, source):
        honest(folder, source)
        table.assign(a=0.5).to_parquet(parquet)

    with mock.patch.object(row_cache, "_write_arrays", meanwhile), pytest.raises(ValueError, match="was changed while"):
        open_rows(parquet, **options(tmp_path))
    assert not list((tmp_path / "cache").glob("*/rows.json"))


@pytest.mark.parametrize("damage", ["cut", "lost", "garbled"])
def test_a_damaged_conversion_is_made_anew(damage, tmp_path, parquet, table):
    rows = open_rows(parquet, **options(tmp_path))
    if damage == "cut":
        with open(rows.folder / "X.npy", "r+b") as file:
            file.truncate(1000)
    elif damage == "lost":
        (rows.folder / "y.npy").unlink()
    else:
        (rows.folder / "rows.json").write_text("{")
    again = open_rows(parquet, **options(tmp_path))
    assert not again.reused
    np.testing.assert_array_equal(again.X["b"], table["b"])


def test_what_a_killed_conversion_leaves_is_not_used(tmp_path, parquet, table):
    """Nobody cleans up after a process that is gone."""
    with (
        mock.patch.object(row_cache, "write_whole", side_effect=KeyboardInterrupt),
        mock.patch.object(row_cache.shutil, "rmtree"),
        pytest.raises(KeyboardInterrupt),
    ):
        open_rows(parquet, **options(tmp_path))
    (left,) = (tmp_path / "cache").glob("*.partial")
    (left / "X.npy").write_bytes(b"half")
    rows = open_rows(parquet, **options(tmp_path))
    assert not rows.reused and not left.exists()
    np.testing.assert_array_equal(rows.X["b"], table["b"])


@pytest.mark.slow
@pytest.mark.parametrize("at", ["half", "whole"])
def test_a_killed_conversion_leaves_nothing_half_usable(at, tmp_path, parquet, table):
    """Killed after the first piece, or right before everything is moved to its place."""
    script = """
import os, sys
from skdp.datasets import open_rows, row_cache
from skdp.datasets.parquet_files import ParquetFiles
whole = ParquetFiles.pieces
def half(self):
    yield next(whole(self))
    os._exit(9)
if sys.argv[1] == "half":
    ParquetFiles.pieces = half
else:
    row_cache.shutil.rmtree = lambda path, **_: os._exit(9) if not str(path).endswith(".partial") else None
open_rows(sys.argv[2], target="y", columns=["a", "b", "c"], cache=sys.argv[3])
"""
    killed = subprocess.run([sys.executable, "-c", script, at, str(parquet), str(tmp_path / "cache")], check=False)
    assert killed.returncode == 9
    assert [path.suffix for path in (tmp_path / "cache").iterdir() if path.is_dir()] == [".partial"]
    rows = open_rows(parquet, **options(tmp_path))
    assert not rows.reused and not list((tmp_path / "cache").glob("*.partial"))
    np.testing.assert_array_equal(rows.X["b"], table["b"])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"columns": None}, r"columns: \['region', 'label'\] are not numbers .*pass schema="),
        ({"columns": ["a", "z"]}, r"columns: there is no column \['z'\]"),
        ({"target": "label"}, r"target: \['label'\] are not numbers .* pass classes="),
        ({"target": None}, "must name the column"),
        ({"target": "a"}, r"and no target: \['a'\]"),
        ({"target": "y", "classes": ["no", "yes"]}, "cannot be labels in a column of type int64"),
        ({"target": ["y"], "classes": [0, 1]}, "classes= belongs to one target"),
        ({"schema": Schema([Column("a", low=0, high=1)])}, "pass one of the two"),
        ({"columns": None, "schema": Schema([Column("z", low=0, high=1)])}, "schema: there is no column"),
        ({"version": "1"}, "is for PyTorch datasets"),
    ],
)
def test_what_cannot_be_read_is_named(more, message, tmp_path, parquet):
    with pytest.raises(ValueError, match=message):
        open_rows(parquet, **options(tmp_path, **more))


def test_paths_that_are_none(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(FileNotFoundError, match="neither a Parquet file nor a folder"):
        open_rows(tmp_path / "nowhere", **options(tmp_path))


def test_without_pyarrow_it_is_said_what_to_install(tmp_path):
    honest = builtins.__import__

    def without(name, *given, **more):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return honest(name, *given, **more)

    with (
        mock.patch.object(builtins, "__import__", without),
        pytest.raises(ImportError, match=r"pip install skdp\[parquet\]"),
    ):
        open_rows("table.parquet", **options(tmp_path))


# ------------------------------------------------------------------ PyTorch
class Images(Dataset):
    """Records are made when they are asked for, with a draw of their own."""

    def __init__(self, n=20, odd=None):
        self.n, self.odd, self.asked = n, odd, 0

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.asked += 1
        x = torch.full((1, 4, 4), i, dtype=torch.uint8)
        return (self.odd(x), i % 2) if self.odd and i == 7 else (x, i % 2)


def test_datasets(tmp_path):
    rng = np.random.default_rng(0)
    X = torch.from_numpy(rng.normal(size=(N, 5)))
    y = (X[:, 0] > 0).long()
    rows = open_rows(TensorDataset(X, y), cache=tmp_path)
    assert rows.X.dtype == np.float32 and np.array_equal(rows.X, X.float().numpy()) and np.array_equal(rows.y, y)
    model = DPClassifier("linear", classes=[0, 1], feature_bounds=(-3, 3)).fit(rows.X, rows.y)
    assert model.predict(rows.X).shape == (N,)
    assert not open_rows(TensorDataset(X, y), cache=tmp_path).reused  # nothing tells whether it has changed
    tokens = open_rows(TensorDataset(torch.arange(6).reshape(3, 2), y[:3].float()), cache=tmp_path)
    assert tokens.X.dtype == np.int64 and tokens.X.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_a_version_says_when_a_dataset_has_changed(tmp_path):
    dataset = Images()
    rows = open_rows(dataset, cache=tmp_path, version="2026")
    assert rows.X.shape == (20, 1, 4, 4) and rows.X.dtype == np.uint8 and rows.X[9].max() == 9
    asked = dataset.asked
    assert (
        open_rows(dataset, cache=tmp_path, version="2026").reused and dataset.asked == asked + 1
    )  # its type and shape
    assert not open_rows(dataset, cache=tmp_path, version="2027").reused
    assert not open_rows(Images(21), cache=tmp_path, version="2026").reused


@pytest.mark.parametrize("odd", [lambda x: x[:, :2], lambda x: x.float()], ids=["shape", "type"])
def test_records_that_differ_are_refused_without_a_value(odd, tmp_path):
    with pytest.raises(ValueError, match="differ in shape or type from the first one"):
        open_rows(Images(odd=odd), cache=tmp_path)
    assert not list(tmp_path.glob("*/rows.json")) and not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (iter([]), "neither a path nor a map-style dataset"),
        ([], "length above 0"),
        ([1.0, 2.0], "must be pairs"),
        ([("a", 1)], "must hold numbers"),
    ],
    ids=["iterator", "empty", "no pairs", "text"],
)
def test_other_sources_are_refused(source, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        open_rows(source, cache=tmp_path)
    with pytest.raises(ValueError, match="target= is for Parquet files"):
        open_rows(source, cache=tmp_path, target="y")
