"""Texts as tokens: determinism, padding, and independence of rows."""

from __future__ import annotations

import pickle
import zlib

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from skdp.contract import Public
from skdp.preprocessing import HashingTokenizer

TEXTS = ["A good film, a GOOD day.", "", "Don't! étude 2001_x", "one two three four five"]


def bucket(term, n=16384):
    return 1 + zlib.crc32(term.encode()) % (n - 1)


def test_distinct_terms_in_order_then_padding():
    tokens = HashingTokenizer(max_tokens=4).fit_transform(TEXTS)
    words = [["a", "good", "film", "day"], [], ["don't", "étude", "2001", "x"], ["one", "two", "three", "four"]]
    expected = [[bucket(w) for w in row] + [0] * (4 - len(row)) for row in words]
    assert tokens.dtype == np.int64 and tokens.tolist() == expected


def test_pairs_follow_words():
    tokens = HashingTokenizer(max_tokens=6, bigrams=True).fit_transform(["not good not"])
    assert tokens[0].tolist() == [bucket(t) for t in ("not", "good", "not good", "good not")] + [0, 0]


def test_tokens_stay_within_the_buckets_and_0_is_for_padding():
    tokens = HashingTokenizer(n_buckets=5, max_tokens=50).fit_transform([" ".join(map(str, range(200)))])
    assert set(tokens[0].tolist()) == {0, 1, 2, 3, 4} and (tokens[0, :4] > 0).all()


def test_every_process_gives_the_same_tokens():
    """Written down, because Python's own hashes of strings differ between processes."""
    assert HashingTokenizer(max_tokens=4).transform(["a Ç d"]).tolist() == [[8497, 1851, 11851, 0]]


def test_every_kind_of_column_gives_the_same_tokens():
    expected = HashingTokenizer(max_tokens=5).fit_transform(TEXTS)
    series = pd.Series(TEXTS, index=[3, 1, 4, 2])
    for column in (tuple(TEXTS), np.array(TEXTS), np.array(TEXTS, object)[:, None], series, series.to_frame(),
                   series.astype("string")):  # fmt: skip
        np.testing.assert_array_equal(HashingTokenizer(max_tokens=5).fit_transform(column), expected)


def test_a_row_that_is_no_text_is_empty_and_moves_no_other():
    odd = [None, 3, float("nan"), b"good", ["good"], "\ud800 good"]
    tokens = HashingTokenizer(max_tokens=3, on_invalid="null").fit_transform([TEXTS[0], *odd])
    assert (tokens[1:-1] == 0).all() and (tokens[-1] > 0).sum() == 1
    np.testing.assert_array_equal(tokens[:1], HashingTokenizer(max_tokens=3).fit_transform(TEXTS[:1]))


@pytest.mark.parametrize(
    ("rows", "types"),
    [
        ([1, 2, 3], "int"),
        (np.array([1.5, 2.5], object), "float"),
        (["good", 3141592, None, b"secret"], "bytes, int"),
        (pd.Series(["good", ["secret"]]), "list"),
        ([["secret"], ["more"]], "list"),
        (np.array([b"secret", b"more"]), "bytes_"),
    ],
)
def test_rows_that_are_no_texts_are_refused_by_type_and_not_by_value(rows, types):
    for call in (HashingTokenizer().fit, HashingTokenizer().transform):
        with pytest.raises(TypeError, match=f"rows of type {types}, and .*on_invalid='null'") as found:
            call(rows)
        assert "secret" not in str(found.value) and "3141592" not in str(found.value)
    assert (HashingTokenizer(on_invalid="null").fit_transform(rows)[1:] == 0).all()


@pytest.mark.parametrize("rows", [np.arange(3), np.ones(3), np.array(["2020-01-01"], "M8[D]"), None])
def test_a_declared_type_that_is_none_of_texts_is_always_refused(rows):
    for on_invalid in ("raise", "null"):
        with pytest.raises(TypeError, match="takes one column of texts"):
            HashingTokenizer(on_invalid=on_invalid).fit(rows)


def test_missing_texts_are_empty():
    rows = [None, float("nan"), np.nan, pd.NA, pd.NaT, ""]
    assert (HashingTokenizer().fit_transform(rows) == 0).all()
    assert (HashingTokenizer().fit_transform(pd.Series(["", None], dtype="string")) == 0).all()


def test_conventions():
    tokenizer = HashingTokenizer(max_tokens=2)
    np.testing.assert_array_equal(tokenizer.transform(TEXTS), clone(tokenizer).fit(TEXTS).transform(TEXTS))
    assert pickle.loads(pickle.dumps(tokenizer)).get_params() == tokenizer.get_params()
    assert list(tokenizer.get_feature_names_out()) == ["token0", "token1"]
    named = clone(tokenizer).set_output(transform="pandas").fit_transform(pd.Series(TEXTS, index=list("abcd")))
    assert list(named.columns) == ["token0", "token1"] and named.shape == (4, 2)
    public = Public(n=4, input_shape=(2,), n_outputs=1, task="binary")
    assert tokenizer.privacy_charge(public, 1.0).touches == ()


@pytest.mark.parametrize(
    ("parameters", "texts", "message"),
    [
        ({"n_buckets": 1}, TEXTS, r"HashingTokenizer\(n_buckets=1\) must be a whole number of at least 2"),
        ({"max_tokens": 2.0}, TEXTS, r"HashingTokenizer\(max_tokens=2.0\) must be a whole number of at least 1"),
        ({"bigrams": 2}, TEXTS, r"HashingTokenizer\(bigrams=2\) must be True or False"),
        ({"on_invalid": "drop"}, TEXTS, r"HashingTokenizer\(on_invalid='drop'\) must be 'raise' or 'null'"),
        ({}, "a text", r"X is a single text"),
        ({}, np.array([TEXTS, TEXTS]), r"X has shape \(2, 4\); HashingTokenizer takes one column"),
    ],
)
def test_what_makes_no_sense_is_named(parameters, texts, message):
    with pytest.raises(ValueError, match=message):
        HashingTokenizer(**parameters).fit(texts)
