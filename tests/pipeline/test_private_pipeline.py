"""Pipelines with one budget."""

import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer, OneHotEncoder, PolynomialFeatures, StandardScaler

from skdp import DPClassifier, PrivacyLedger
from skdp.accounting import verify
from skdp.audit import check_pipeline
from skdp.contract import Charge, Gaussian, Poisson, Query, RowSum, Touch, drive
from skdp.exceptions import NotPrivateWarning, PlanViolationError
from skdp.linear_model import DPADMMClassifier, DPLinearClassifier
from skdp.pipeline import PrivatePipeline, check_steps, make_private_pipeline
from skdp.preprocessing import (
    Column,
    DPFeatureRelease,
    DPKBinsDiscretizer,
    DPMinMaxScaler,
    DPOneHotEncoder,
    DPTableVectorizer,
    HashingTokenizer,
    Schema,
    SchemaEncoder,
)
from skdp.releases import Spending


class Centre(Spending):
    """Takes the private mean of columns in [-1, 1] off."""

    def __init__(self, epsilon=1.0, delta="auto", adjacency="zero-out", n_public=None, noise_multiplier=None,
                 insecure_noise_seed=None, times=1, fail=False, sly=1.0):  # fmt: skip
        self.epsilon = epsilon
        self.delta = delta
        self.adjacency = adjacency
        self.n_public = n_public
        self.noise_multiplier = noise_multiplier
        self.insecure_noise_seed = insecure_noise_seed
        self.times = times
        self.fail = fail
        self.sly = sly

    def privacy_charge(self, public, scale):
        touch = Touch("mean", Poisson(), scale and Gaussian((3 * scale * getattr(self, "trick_", 1.0),)), self.times)
        return Charge((touch,), public.adjacency, public.unit)

    def fit(self, X, y=None):
        self.trick_ = self.sly
        X = np.asarray(X, float)
        public = self._public(*X.shape)
        with self._spending(public, {"X": X}, np.zeros(len(X), bool), facts=["the range"]) as (executor, touches):

            def queries():
                for _ in range(self.times):
                    (total,) = yield Query(touches["mean"], (RowSum("X", np.nan_to_num, X.shape[1] ** 0.5),))
                return total

            self.mean_ = drive(queries(), executor.answer) / public.n  # fmt: skip
            if self.fail:
                raise RuntimeError("broken")
        return self

    def transform(self, X):
        return np.asarray(X, float) - self.mean_


def classifier(**params):
    return DPClassifier("linear", classes=[0, 1], max_epochs=2, **{"feature_bounds": (-2, 2)} | params)


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).uniform(-1, 1, (400, 3))
    return X, (X[:, 0] > 0).astype(int)


def test_all_steps_together_cost_exactly_the_budget(data):
    pipe = make_private_pipeline(Centre(times=3), classifier(), epsilon=1.5).fit(*data)
    statement = pipe.privacy_
    assert 1.49 < statement.epsilon <= 1.5 and statement.status == "complete"
    assert {line.name for line in statement.queries} >= {"centre: mean", "dpclassifier: gradient"}
    assert "the range" in statement.public and verify(statement).holds
    assert pipe[0].privacy_.epsilon < pipe[1].privacy_.epsilon < 1.5
    assert pipe.score(*data) > 0.5
    again = pickle.loads(pickle.dumps(pipe))
    assert again.privacy_ == statement and (again.predict(data[0]) == pipe.predict(data[0])).all()


def test_shares_decide_who_gets_how_much(data):
    def cost(**params):
        pipe = make_private_pipeline(Centre(), classifier(), epsilon=1.0, **params).fit(*data)
        return pipe[0].privacy_.epsilon, pipe.shares_

    little, default = cost()
    assert default == pytest.approx({"centre": 0.1, "dpclassifier": 0.9})
    more, _ = cost(shares={"centre": 0.5})
    assert more > 1.5 * little
    # Shares of the squared signal: half of it is the budget over the root of two, for Gaussian releases.
    search = GridSearchCV(
        make_private_pipeline(Centre(), classifier()), {"shares": [{"centre": 0.1}, {"centre": 0.4}]}, cv=2
    ).fit(*data)
    assert search.best_estimator_.privacy_.epsilon <= 1.0


@pytest.mark.parametrize(
    "shares", [{"nobody": 0.1}, {"centre": 0}, {"centre": 1.2}, {"centre": 0.5, "dpclassifier": 0.4}, {"centre": "a"}]
)
def test_impossible_shares_are_refused(data, shares):
    with pytest.raises(ValueError, match="shares"):
        make_private_pipeline(Centre(), classifier(), shares=shares).fit(*data)


def test_unpaid_steps_are_refused_unless_declared(data):
    pipe = make_private_pipeline(StandardScaler(), SelectKBest(k=2), classifier())
    with pytest.raises(ValueError, match="'standardscaler'.*'selectkbest'"):
        pipe.fit(*data)
    pipe.set_params(public_steps=("standardscaler", "selectkbest"))
    assert any("'selectkbest'" in line for line in pipe.fit(*data).privacy_.public)
    with pytest.raises(ValueError, match="public_steps"):
        pipe.set_params(public_steps=("standardscaler", "selectkbest", "pca")).fit(*data)
    with pytest.raises(ValueError, match="logisticregression"):
        make_private_pipeline(Centre(), LogisticRegression()).fit(*data)


def test_a_step_may_spend_its_own_price_list_and_nothing_else(data):
    with pytest.raises(PlanViolationError, match="Centre"):
        make_private_pipeline(Centre(sly=0.5), classifier()).fit(*data)


def test_what_a_failed_fit_spent_stays_counted(data):
    pipe = make_private_pipeline(Centre(fail=True), classifier(), epsilon=1.0)
    with pytest.raises(RuntimeError, match="broken"):
        pipe.fit(*data)
    failed = pipe.privacy_
    assert failed.epsilon > 0.99 and failed.executed_epsilon < 0.5
    pipe.set_params(centre__fail=False).fit(*data)
    assert pipe.privacy_.epsilon > 1.0
    assert clone(pipe).fit(*data).privacy_.epsilon <= 1.0


def test_known_output_bounds_save_the_budget_for_them(data):
    table = pd.DataFrame({"a": data[0][:, 0], "b": np.where(data[0][:, 1] > 0, "u", "v")})
    schema = Schema([Column("a", low=-1, high=1), Column("b", categories=("u", "v"))])
    pipe = make_private_pipeline(SchemaEncoder(schema), classifier(feature_bounds="private")).fit(table, data[1])
    assert [line.name for line in pipe.privacy_.queries] == ["dpclassifier: gradient"]
    np.testing.assert_array_equal(pipe[-1].feature_bounds_, [[-1, 1]] * 3)  # indicators stay as they are


def test_columns_and_nested_steps_share_the_budget(data):
    first = ColumnTransformer([("one", Centre(), [0]), ("two", make_pipeline(Normalizer(), Centre()), [1, 2])])
    pipe = PrivatePipeline([("columns", first), ("model", classifier())], epsilon=2.0).fit(*data)
    assert set(pipe.shares_) == {"columns__one", "columns__two__centre", "model"}
    assert 1.99 < pipe.privacy_.epsilon <= 2.0


def test_no_noise_says_so_and_add_remove_needs_a_declared_number(data):
    with pytest.warns(NotPrivateWarning, match="pipeline"):
        pipe = make_private_pipeline(Centre(), classifier(), epsilon=math.inf).fit(*data)
    np.testing.assert_allclose(pipe[0].mean_, data[0].mean(axis=0))
    assert pipe.privacy_.epsilon == math.inf
    pipe = make_private_pipeline(Centre(), classifier(), adjacency="add-remove", n_public=400).fit(*data)
    assert pipe.privacy_.adjacency == "add-remove" and pipe[-1].n_public == 400
    with pytest.raises(ValueError, match="n_public"):
        pipe.set_params(n_public=None).fit(*data)


def test_checks_name_the_verdict_of_every_step():
    pipe = Pipeline([
        ("columns", ColumnTransformer([("n", StandardScaler(), [0]), ("c", OneHotEncoder(), [1])], remainder="drop")),
        ("public", OneHotEncoder(categories=[["a", "b"]], handle_unknown="ignore")),
        ("quotes", OneHotEncoder(categories=[["a", "b"]])), ("fun", FunctionTransformer(np.log1p)),
        ("off", "passthrough"), ("model", classifier()),
    ])  # fmt: skip
    verdicts = {check.path: check.verdict for check in check_steps(pipe)}
    assert verdicts == {
        "columns": "unpaid", "columns__n": "unpaid", "columns__c": "unpaid", "public": "public", "quotes": "unpaid",
        "fun": "public", "model": "charged",
    }  # fmt: skip
    released = make_pipeline(DPFeatureRelease(), StandardScaler(), LogisticRegression())
    assert [check.verdict for check in check_steps(released)] == ["charged", "released", "released"]


def test_params_clone_and_slices(data):
    pipe = make_private_pipeline(Centre(), classifier(), epsilon=2.0, shares={"centre": 0.2})
    assert clone(pipe.set_params(dpclassifier__lr=0.3)).get_params()["dpclassifier__lr"] == 0.3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe.fit(*data)
    assert isinstance(pipe[:1], Pipeline) and pipe[:1].transform(data[0]).shape == data[0].shape
    assert clone(pipe).fit(*data).privacy_.epsilon == pipe.privacy_.epsilon
    with pytest.raises(AttributeError):
        pipe.fit_predict(*data)


@pytest.mark.parametrize("wrong", [{"solver": "lbfgs"}, {"solver": "adassp"}, {"max_iter": 0}, {"on_invalid": "drop"}])
def test_parameters_of_a_linear_model_are_refused_before_an_earlier_step_spends(data, wrong):
    pipe = make_private_pipeline(DPMinMaxScaler(), DPLinearClassifier(classes=[0, 1], **wrong))
    with PrivacyLedger(epsilon=5.0, delta=1e-5) as ledger, pytest.raises(ValueError) as behind:
        pipe.fit(*data)
    with pytest.raises(ValueError) as alone:
        DPLinearClassifier(classes=[0, 1], **wrong).fit(*data)
    assert str(behind.value) == str(alone.value) and ledger.epsilon == 0


def test_a_raw_table_at_one_budget():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "age": rng.integers(18, 90, 3000), "town": rng.choice(["A", "B", None], 3000), "new": rng.random(3000) > 0.5,
        "since": pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, 3000), "D"),
    })  # fmt: skip
    y = np.where(table["age"] > 50, "old", "young")
    model = DPClassifier(classes=["old", "young"], max_epochs=40)
    pipe = make_private_pipeline(DPTableVectorizer(), model, epsilon=2.0)
    pipe.fit(table, y)
    assert 1.99 < pipe.privacy_.epsilon <= 2.0 and pipe.privacy_.delta_fail > 0
    assert pipe.score(table, y) > 0.9
    assert not any(line.startswith("feature bounds") for line in pipe.privacy_.public)
    assert pipe[-1].feature_bounds_.shape == (len(pipe[0].get_feature_names_out()), 2)
    for again in (clone(pipe), pipe):
        again.set_params(dptablevectorizer__max_categories=1).fit(table, y)
        assert len(again[-1].feature_bounds_) == len(again[0].get_feature_names_out())
    known = {"age": (18, 90), "town": ["A", "B"], "since": (7000, 9000)}
    pipe.set_params(dptablevectorizer__schema=known).fit(table, y)
    assert [line.name for line in pipe.privacy_.queries] == ["dpclassifier: gradient"]


def test_texts_and_images():
    texts, y = np.array(["good film", "bad film"] * 100, dtype=object), np.array([1, 0] * 100)
    pipe = make_private_pipeline(HashingTokenizer(), DPClassifier("text", classes=[0, 1], max_epochs=2), epsilon=4.0)
    assert [line.name for line in pipe.fit(texts, y).privacy_.queries] == ["dpclassifier: gradient"]
    images = np.random.default_rng(0).random((100, 1, 9, 9)).astype(np.float32)
    pipe = make_private_pipeline(DPClassifier(classes=[0, 1]), epsilon=4.0).fit(images, y[:100])
    assert 3.99 < pipe.privacy_.epsilon <= 4.0


class Foreign:
    """Names its price and keeps no book."""

    def __init__(self, noise_multiplier=None):
        self.noise_multiplier = noise_multiplier

    def get_params(self, deep=True):
        return {"noise_multiplier": self.noise_multiplier}

    def set_params(self, **params):
        self.noise_multiplier = params["noise_multiplier"]
        return self

    def privacy_charge(self, public, scale):
        return Charge((Touch("mean", Poisson(), Gaussian((scale,)), 1),), public.adjacency, public.unit)

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X


def test_what_nobody_reports_counts_in_full(data):
    pipe = make_private_pipeline(Foreign(), Centre(fail=True), classifier(), epsilon=1.0)
    with pytest.raises(RuntimeError):
        pipe.fit(*data)
    assert {line.name for line in pipe.privacy_.queries if line.executed} == {"foreign: mean", "centre: mean"}


def test_steps_in_other_threads_know_what_is_paid_for(data):
    columns = ColumnTransformer([("one", Centre(), [0]), ("two", Centre(), [1, 2])], n_jobs=2)
    pipe = make_private_pipeline(columns, classifier(), epsilon=1.0)
    with PrivacyLedger(delta=1e-5) as ledger, parallel_config("threading", n_jobs=2):
        pipe.fit(*data)
        assert len(ledger.table()) == 1
        with pytest.raises(PlanViolationError):
            clone(pipe).set_params(columntransformer__two=Centre(sly=0.5)).fit(*data)
    assert all(line.executed == line.planned for line in pipe.privacy_.queries)


def test_what_nested_steps_take_as_public_is_stated(data):
    columns = ColumnTransformer(
        [("one", Centre(insecure_noise_seed=1), [0, 1, 2]), ("fun", FunctionTransformer(), [0])]
    )
    statement = make_private_pipeline(columns, classifier()).fit(*data).privacy_
    assert statement.reproducible_noise and "the range" in statement.public
    assert any("'columntransformer__fun'" in line for line in statement.public)


def test_nested_steps_are_priced_at_their_own_columns():
    table = pd.DataFrame({"a": ["u", "v"] * 200, "b": np.arange(400.0), "c": np.arange(400.0)})
    columns = ColumnTransformer([("kind", DPOneHotEncoder(categories=[["u", "v"]], sparse_output=False), ["a"])])
    pipe = make_private_pipeline(columns, classifier(feature_bounds=None)).fit(table, [0, 1] * 200)
    assert [line.name for line in pipe.privacy_.queries] == ["dpclassifier: gradient"]


@pytest.mark.parametrize("part", [DPKBinsDiscretizer(), HashingVectorizer(), Normalizer()])
def test_steps_that_may_be_sparse_inside_a_column_transformer(part):
    for wrapped in (part, make_pipeline(part, "passthrough")):
        columns = ColumnTransformer([("n", Normalizer(), [0])]).set_params(remainder=wrapped)
        unpaid = [check.path for check in check_steps(columns) if check.verdict == "unpaid"]
        assert unpaid == ["columntransformer"] * (not isinstance(part, Normalizer))
        assert "columntransformer" not in [check.path for check in check_steps(columns.set_params(sparse_threshold=0))]


@pytest.mark.parametrize(
    ("threshold", "sparse_output", "kind"), [(0.3, True, None), (0.3, False, False), (0, True, False), (1, True, True)]
)
def test_whether_rows_are_sparse_is_no_matter_of_their_zeros(threshold, sparse_output, kind):
    frame = pd.DataFrame({name: ["a"] * 1000 for name in "uvwxyz"})
    pipe = make_private_pipeline(
        ColumnTransformer(
            [("c", OneHotEncoder(categories=[list("abc")] * 6, handle_unknown="ignore", sparse_output=sparse_output),
              list(frame))],
            sparse_threshold=threshold,
        ),
        DPLinearClassifier(classes=[0, 1], feature_bounds=None, solver="gradient-descent", noise_multiplier=1.0),
    )  # fmt: skip
    if kind is None:
        with pytest.raises(ValueError, match="'columntransformer' .* sparse_threshold=0"):
            pipe.fit(frame, [0, 1] * 500)
        assert not hasattr(pipe, "_failed")
        return
    found = []
    for unknown in (100, 101):  # at 100 three cells in ten are not 0
        frame.iloc[:unknown] = "?"
        fit = clone(pipe).fit(frame, [0, 1] * 500)
        found.append(fit[-1].coef_noise_std_)
        assert fit[0].sparse_output_ == kind == ("that X is a sparse matrix" in fit.privacy_.public)
    assert np.array_equal(*found)


@pytest.mark.parametrize("y", [[0] * 400, [0, 1] * 199 + [0, np.nan], [0, 1] * 199, [0, 7] * 200])
def test_wrong_targets_are_refused_before_a_step_spends(data, y):
    pipe = make_private_pipeline(Centre(), DPClassifier("linear", classes=[0, 1] if 7 in y else None))
    with pytest.raises(ValueError):
        pipe.fit(data[0], y)
    assert not hasattr(pipe, "_failed")


def test_an_epsilon_of_a_step_is_not_used_silently(data):
    with pytest.warns(UserWarning, match="epsilon=0.1 of step 'dpclassifier'"):
        make_private_pipeline(Centre(), classifier(epsilon=0.1)).fit(*data)


@pytest.mark.parametrize("public_steps", [(), ("dpadmmclassifier",)])
def test_steps_of_many_sites_are_refused_and_the_error_says_what_to_do(data, public_steps):
    federated = DPADMMClassifier(classes=[0, 1], feature_bounds=(-1, 1))
    pipe = make_private_pipeline(DPMinMaxScaler(), federated, public_steps=public_steps)
    with pytest.raises(ValueError, match="pays from its own epsilon.* use DPLinearClassifier as the step"):
        pipe.fit(*data)
    assert not hasattr(federated, "coef_")
    # In an ordinary pipeline it pays as it does alone, so that nothing leaks.
    assert check_pipeline(make_pipeline(PolynomialFeatures(), federated)).holds
