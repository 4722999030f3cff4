"""Splits by public values: no record decides on the side of another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    ShuffleSplit,
    StratifiedKFold,
    StratifiedShuffleSplit,
    TimeSeriesSplit,
    cross_val_score,
)
from sklearn.tree import DecisionTreeClassifier

from skdp.model_selection import PublicGroupKFold, PublicKFold, check_splitter, public_train_test_split

FALSE_ALARM = 1e-6
X = np.arange(600.0)[:, None]


def folds(splitter, y=None, groups=None, rows=X):
    return [(train.tolist(), test.tolist()) for train, test in splitter.split(rows, y, groups)]


def test_folds_by_position_are_those_of_kfold_whatever_the_labels():
    splitter = PublicKFold(4, shuffle=True, random_state=0)
    zeros, ones = np.zeros(600), np.ones(600)
    assert folds(splitter, zeros) == folds(splitter, ones) == folds(KFold(4, shuffle=True, random_state=0))
    tilted = np.r_[np.zeros(300), np.ones(300)]
    flipped = np.r_[1, tilted[1:]]
    stratified = StratifiedKFold(4, shuffle=True, random_state=0)
    assert folds(stratified, tilted) != folds(stratified, flipped)  # what this is about


def test_one_group_never_moves_another():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 60, 600)
    splitter = PublicGroupKFold(5, random_state=3)

    def fold_of(groups):
        return {g: f for f, (_, test) in enumerate(folds(splitter, groups=groups, rows=groups)) for g in groups[test]}

    before = fold_of(groups)
    for changed in (groups[groups != 7], np.r_[groups, [7] * 400], groups[rng.permutation(600)]):
        after = fold_of(changed)
        assert all(after[g] == before[g] for g in set(changed.tolist()) & set(before))
    sklearns = [
        {g: f for f, (_, test) in enumerate(GroupKFold(5).split(g_, groups=g_)) for g in g_[test]}
        for g_ in (groups, np.r_[groups, [7] * 400])
    ]
    assert sklearns[0] != sklearns[1]  # what this is about


def test_groups_stay_together_and_folds_cover_every_row_once():
    groups = np.array([f"person {i // 3}" for i in range(600)])
    found = folds(PublicGroupKFold(5, random_state=0), groups=groups)
    assert sorted(sum((test for _, test in found), [])) == list(range(600))
    for train, test in found:
        assert not set(groups[train]) & set(groups[test])


def test_draws_are_uniform_and_independent_of_the_spelling_of_numbers():
    ids = np.arange(20_000)
    found = [len(test) for _, test in folds(PublicGroupKFold(5, random_state=1), groups=ids, rows=ids)]
    assert stats.chisquare(found).pvalue > FALSE_ALARM
    assert stats.chisquare([3000, *found[1:]]).pvalue < FALSE_ALARM  # power
    spellings = [ids[:50], ids[:50].tolist(), ids[:50].astype(float), pd.Series(ids[:50])]
    assert len({str(folds(PublicGroupKFold(3, random_state=1), groups=s, rows=ids[:50])) for s in spellings}) == 1


def test_a_key_of_none_is_drawn_anew():
    splitter = PublicGroupKFold(2)
    assert folds(splitter, groups=np.arange(600)) != folds(splitter, groups=np.arange(600))


def test_train_and_test_by_position():
    train, test, y_train, y_test = public_train_test_split(X, X[:, 0], test_size=0.2, random_state=0)
    assert len(test) == 120 and np.array_equal(train[:, 0], y_train) and np.array_equal(test[:, 0], y_test)
    again = public_train_test_split(X, 1 - X[:, 0], test_size=0.2, random_state=0)
    assert np.array_equal(train, again[0])


def test_train_and_test_by_id_stay_as_they_are_next_month():
    frame = pd.DataFrame({"id": [f"p{i}" for i in range(500)], "value": np.arange(500)})
    later = pd.concat([frame[100:], frame.assign(id=[f"q{i}" for i in range(500)])])
    sides = []
    for table in (frame, later):
        train, test = public_train_test_split(table, ids=table["id"], random_state=5)
        sides.append({**dict.fromkeys(train["id"], 0), **dict.fromkeys(test["id"], 1)})
    assert all(sides[0][name] == sides[1][name] for name in frame["id"][100:])
    assert stats.binomtest(sum(sides[0].values()), 500, 0.25).pvalue > FALSE_ALARM


@pytest.mark.parametrize("cv", [PublicKFold(3), KFold(3), ShuffleSplit(), TimeSeriesSplit(), PredefinedSplit([0, 1]),
                                PublicGroupKFold(), GroupShuffleSplit(), LeaveOneGroupOut()])  # fmt: skip
def test_splitters_of_public_values_pass(cv):
    assert check_splitter(cv) is cv


@pytest.mark.parametrize(
    ("cv", "why"),
    [
        (None, "means stratified folds"),
        (5, "means stratified folds"),
        (StratifiedKFold(3), "balances labels"),
        (RepeatedStratifiedKFold(), "balances labels"),
        (StratifiedShuffleSplit(), "balances labels"),
        (GroupKFold(3), "sizes of groups"),
        (type("Mine", (KFold,), {})(3), "not known"),
        ([([0], [1])], "not known"),
    ],
)
def test_others_are_refused_with_a_remedy(cv, why):
    with pytest.raises(ValueError, match=f"{why}.*pass"):
        check_splitter(cv)


def test_numbers_mean_plain_folds_for_a_regressor():
    assert check_splitter(4, classifier=False).n_splits == 4 and check_splitter(None, classifier=False).n_splits == 5


def test_they_serve_scikit_learn():
    y = (X[:, 0] > 300).astype(int)
    scores = cross_val_score(DecisionTreeClassifier(), X, y, cv=PublicGroupKFold(3, random_state=0), groups=X[:, 0])
    assert len(scores) == 3 and scores.min() > 0.9


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: folds(PublicGroupKFold(1), groups=X[:, 0]), "n_splits"),
        (lambda: folds(PublicGroupKFold(2)), "groups"),
        (lambda: folds(PublicGroupKFold(2), groups=[1]), "groups"),
        (lambda: folds(PublicGroupKFold(2, random_state="x"), groups=X[:, 0]), "random_state"),
        (lambda: public_train_test_split(X, test_size=2), "test_size"),
        (lambda: public_train_test_split(X, ids=[1]), "ids"),
        (lambda: public_train_test_split(), "array"),
    ],
)
def test_impossible_parameters(call, name):
    with pytest.raises(ValueError, match=name):
        call()
