"""Whole fits audited in one run: honest ones stay below their claim, gross faults exceed it.

Every audit of an honest fit fails with probability at most 1e-3 (confidence 0.999); seeds are fixed.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.accounting import epsilon as epsilon_of
from skdp.accounting import noise_multiplier
from skdp.audit import OneRunAudit, audit_one_run
from skdp.mechanisms import MECHANISMS
from skdp.training import SecretRandomness

# Ways to train, by estimator parameters; a new mechanism adds its line and is audited.
CASES = {
    "dp-sgd": {"mechanism": "dp-sgd"},
    "automatic": {"clipping": "automatic"},
    "adaptive": {"clipping": "adaptive"},
    "dpis": {"mechanism": "dpis"},
    "neuraldp": {"mechanism": "neuraldp"},
    "dp-ftrl": {"mechanism": "dp-ftrl"},
    "rgp": {"mechanism": "rgp"},
}
CANARIES = 200


def classifier(**params):
    """Canaries times delta has to be small beside what is left of the confidence, or delta alone explains all."""
    fast = {"module": "mlp", "classes": [0, 1], "delta": 1e-7, "feature_bounds": None, "max_grad_norm": 0.1}
    return DPClassifier(**{**fast, "epsilon": 1.0, "insecure_noise_seed": 1, "random_state": 0, **params})


@pytest.fixture(scope="module")
def table():
    """1000 rows of 4 features, and a zero column for every canary."""
    rng = np.random.default_rng(0)
    X = np.zeros((1000, 4 + CANARIES))
    X[:, :4] = rng.uniform(-1, 1, size=(1000, 4))
    return X, (X[:, 0] > 0).astype(int)


@pytest.fixture(scope="module")
def canaries():
    """Canaries with a column of their own, which nothing else trains: as easy to find as can be."""
    labels = np.random.default_rng(1).integers(0, 2, CANARIES)
    return np.hstack([np.zeros((CANARIES, 4)), 10 * np.eye(CANARIES)]), labels


def no_noise():
    return mock.patch.object(SecretRandomness, "normal", lambda self, size: torch.zeros(size))


def no_clip():
    return mock.patch("skdp.training.executor.clip_factors", lambda squares, *_: torch.ones_like(squares[0]))


def audit(model, table, canaries, **options):
    return audit_one_run(model, *table, canaries=canaries, **{"confidence": 0.999, "random_state": 0, **options})


def test_every_mechanism_has_a_case():
    assert not set(MECHANISMS) - {params.get("mechanism") for params in CASES.values()}, "add a line to CASES"


@pytest.mark.filterwarnings("ignore:the labels y")
@pytest.mark.parametrize("case", CASES)
def test_honest_fits_stay_below(case, table, canaries):
    honest = audit(classifier(**CASES[case]), table, canaries)
    assert honest.consistent and honest.guesses == 100 and honest.canaries == CANARIES
    assert 0.9 < honest.epsilon_claimed <= 1 and honest.epsilon_reachable > 2


# Without noise NeuralDP's net would be stretched for noise that is not there; its own fault is below.
@pytest.mark.parametrize("case", sorted(set(CASES) - {"neuraldp"}))
def test_fits_without_noise_exceed(case, table, canaries):
    with no_noise():
        broken = audit(classifier(**CASES[case]), table, canaries)
    assert not broken.consistent and broken.epsilon_lower > 1.5, broken.text


class JointlyTrained(ClassifierMixin, BaseEstimator):
    """Clipped and noised activations, as much noise as the claim needs, but the layer before them trains as well."""

    def fit(self, X, y, sample_weight):
        torch.manual_seed(0)
        self.classes_ = np.unique(y)
        X, y = torch.tensor(X[sample_weight > 0]).float(), torch.tensor(y[sample_weight > 0]).float()
        self.net_ = nn.Sequential(nn.Linear(X.shape[1], 16), nn.Tanh(), nn.Linear(16, 1))
        std = noise_multiplier(1.0, 1e-7)
        optimizer = torch.optim.Adam(self.net_.parameters(), lr=0.03)
        for _ in range(100):
            hidden = self.net_[:2](X)
            hidden = hidden / hidden.norm(dim=1, keepdim=True).clamp(min=1.0)
            outputs = self.net_[2](hidden + std * torch.randn(hidden.shape))[:, 0]
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(outputs, y).backward()
            optimizer.step()
        return self

    def predict_proba(self, X):
        with torch.no_grad():
            chance = torch.sigmoid(self.net_(torch.tensor(X).float())).double().numpy()
        return np.hstack([1 - chance, chance])


def test_a_layer_that_trains_before_the_noise_exceeds_the_claim(table, canaries):
    """Each pass is even taken to cost nothing: the gradient of the front is a function of raw rows all the same."""
    broken = audit(JointlyTrained(), table, canaries, claim=(1.0, 1e-7))
    assert not broken.consistent and broken.epsilon_lower > 1.5, broken.text


def test_an_ignored_clip_exceeds_the_claim(table, canaries):
    with no_clip():
        broken = audit(classifier(epsilon=0.5), table, canaries)
    assert not broken.consistent, broken.text


@pytest.mark.slow
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("case", CASES)
def test_honest_fits_stay_below_at_every_epsilon(case, epsilon, table, canaries):
    for seed in range(2):
        model = classifier(**CASES[case], epsilon=epsilon, insecure_noise_seed=seed)
        for reference in (False, True):
            found = audit(model, table, canaries, random_state=seed, reference=reference)
            assert found.consistent, found.text


@pytest.mark.slow
@pytest.mark.parametrize("adjacency", ["add-remove", "replace-one"])
def test_honest_fits_stay_below_at_every_adjacency(adjacency, table, canaries):
    n_public = 900 if adjacency == "add-remove" else None
    found = audit(classifier(adjacency=adjacency, n_public=n_public), table, canaries)
    assert found.consistent, found.text


@pytest.mark.slow
def test_at_much_epsilon_honest_fits_give_something_away(table, canaries):
    """The audit is not blind: it sees that epsilon=8 is not epsilon=1."""
    assert audit(classifier(epsilon=8.0), table, canaries).epsilon_lower > 0.5


# ------------------------------------------------------------------ how the audit is done
def test_canaries_take_the_place_of_rows_and_are_nulled_by_weight(table, canaries):
    seen = {}

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.update(X=X, y=y, weights=sample_weight)
            return super().fit(X, y, sample_weight)

    X, y = table
    before = X.copy()
    audit(Spy(), table, canaries, claim=(1.0, 1e-5))
    assert seen["X"].shape == X.shape and (X == before).all()
    planted = seen["X"][:, 4:].any(axis=1)
    assert planted.sum() == CANARIES and (seen["weights"][~planted] == 1).all()
    assert set(seen["weights"][planted]) == {0.0, 1.0} and 60 < seen["weights"][planted].sum() < 140


def test_canaries_by_default_are_rows_with_wrong_labels(table):
    seen = {}

    def score(model, X_c, y_c):
        seen.update(X=X_c, y=y_c)
        return np.zeros(len(y_c))

    found = audit_one_run(LogisticRegression(), *table, claim=(1.0, 1e-5), score=score, random_state=0)
    X, y = table
    truth = {tuple(row): label for row, label in zip(X[:, :4], y, strict=True)}
    assert found.canaries == 250 and found.guesses == 124
    assert all(truth[tuple(row)] == 1 - label for row, label in zip(seen["X"][:, :4], seen["y"], strict=True))
    # Guesses without any information: far fewer right than the claim would allow.
    assert found.epsilon_lower == 0.0


def test_plain_models_that_claim_privacy_are_caught(three):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((300, 300))
    labels = three[1]
    claim = (1.0, 1e-5)
    assert not audit_one_run(LogisticRegression(C=100), X, labels, claim=claim, guesses=40, random_state=0).consistent
    target = X[:, 0] + rng.standard_normal(300)
    assert not audit_one_run(Ridge(0.1), X, target, claim=claim, guesses=40, random_state=0).consistent


def test_a_reference_sharpens_and_has_noise_of_its_own():
    """With the noise of the audited fit it would subtract what protects, and accuse honest code."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1000, 300))
    y = (X[:, 0] > 0).astype(int)
    model = classifier(module="linear", feature_bounds=(-4, 4))
    options = {"reference": True, "random_state": 0}
    assert audit_one_run(model, X, y, **options).consistent
    with no_noise():
        blunt, sharp = (audit_one_run(model, X, y, reference=r, random_state=0).epsilon_lower for r in (False, True))
    assert sharp > blunt + 0.2 and sharp > 1


def test_regressors_and_several_targets(slope):
    X, y = slope
    model = DPRegressor("linear", y_bounds=(-4, 4), feature_bounds=(-1, 1), insecure_noise_seed=1)
    assert audit_one_run(model, X, y, random_state=0).consistent
    assert audit_one_run(model, X, np.column_stack([y, -y]), random_state=0).consistent


def test_pipelines_and_tables_of_columns(blobs):
    X, y = blobs
    table = pd.DataFrame(X, columns=list("abcd"), index=np.arange(400) // 2)
    table["e"] = pd.Categorical(np.where(X[:, 0] > 0, "long word", "no"))
    numbers = FunctionTransformer(lambda t: t.assign(e=t["e"].cat.codes))
    model = DPClassifier("linear", classes=["no", "yes"], feature_bounds=(-1, 1))
    labels = pd.Series(np.where(y, "yes", "no"), index=table.index)
    chosen = table.iloc[:60], labels.iloc[:60].to_numpy()
    for pipeline in (
        make_pipeline(numbers, model),
        make_pipeline(FunctionTransformer(), make_pipeline(numbers, model)),
    ):
        found = audit_one_run(pipeline, table, labels, canaries=chosen, random_state=0)
        assert found.consistent and found.epsilon_claimed <= 1 and found.canaries == 60


def test_replace_one_is_compared_at_the_sharper_relation(blobs):
    model = DPClassifier("linear", classes=[0, 1], adjacency="replace-one", feature_bounds=(-1, 1), max_epochs=3)
    found = audit_one_run(model, *blobs, random_state=0)
    statement = model.fit(*blobs).privacy_
    assert found.epsilon_claimed == pytest.approx(epsilon_of(statement.event, statement.delta, "zero-out"))
    assert found.epsilon_claimed < 0.8 * statement.epsilon
    removed = DPClassifier("linear", classes=[0, 1], adjacency="add-remove", n_public=300, feature_bounds=(-1, 1))
    assert audit_one_run(removed, *blobs, random_state=0).epsilon_claimed == removed.fit(*blobs).privacy_.epsilon


def test_seeded_audits_are_reproducible(table, canaries):
    assert audit(classifier(), table, canaries) == audit(classifier(), table, canaries)


@pytest.mark.parametrize(
    ("estimator", "options", "message"),
    [
        (KNeighborsClassifier(), {}, "takes no sample_weight in fit"),
        (make_pipeline(FunctionTransformer(), KNeighborsClassifier()), {}, "takes no sample_weight in fit"),
        (LogisticRegression(), {}, r"no privacy_ to compare with; pass claim="),
        (LogisticRegression(), {"n_canaries": 401}, "n_canaries=401 must be a whole number between 2 and 400"),
        (LogisticRegression(), {"n_canaries": 10, "guesses": 11}, "guesses=11 must be a whole number between 2 and 10"),
        (LogisticRegression(), {"confidence": 2}, "confidence=2"),
        (LogisticRegression(), {"claim": (1, 0), "score": lambda *_: np.full(100, np.nan)}, "not NaN"),
        (LogisticRegression(), {"claim": (1, 0), "score": lambda *_: np.zeros(3)}, "one per canary"),
        (LogisticRegression(), {"canaries": (np.zeros((500, 4)), np.zeros(500))}, "whose places they take"),
    ],
)
def test_refusals_name_parameter_and_remedy(estimator, options, message, blobs):
    with pytest.raises(ValueError, match=message):
        audit_one_run(estimator, *blobs, **options)


def test_one_class_has_no_wrong_label(blobs):
    with pytest.raises(ValueError, match="one class only"):
        audit_one_run(LogisticRegression(), blobs[0], np.zeros(400, dtype=int), claim=(1, 0))


def test_what_cannot_be_shown_is_said():
    small = OneRunAudit(0.1, 8.0, delta=0.0, correct=15, guesses=20, canaries=100, confidence=0.95)
    assert small.consistent and "Even 20 right guesses would have shown no more than 1.8" in str(small)
