"""Plans: what a fit will cost and whether it can work, from public numbers alone."""

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import skdp
from skdp import DPClassifier, DPRegressor
from skdp.accounting import attack_accuracy, epsilon
from skdp.contract import Public
from skdp.exceptions import WeakSignalWarning
from skdp.linear_model import DPADMMClassifier
from skdp.model_selection import DPSearchCV
from skdp.neural_network.prospects import hopeless_signal, rows_for, signal_for, verdict_of
from skdp.pipeline import make_private_pipeline
from skdp.planning import FitPlan
from skdp.preprocessing import DPFeatureRelease

BOUNDS = {"feature_bounds": (-1, 1)}


@pytest.fixture
def data():
    X = np.random.default_rng(0).uniform(-1, 1, (600, 4))
    return X, (X[:, 0] > 0).astype(int)


# ------------------------------------------------------------------ the plan is what a fit does
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "model",
    [
        DPClassifier(classes=[0, 1], epsilon=2.0, **BOUNDS),
        DPClassifier("linear", classes=[0, 1], epsilon=0.7, adjacency="replace-one", batch_size=100, max_epochs=2),
        DPClassifier("linear", classes=[0, 1], class_weight="balanced", delta=1e-6, max_epochs=3),
        DPRegressor("linear", y_bounds=(0, 1), epsilon=None, noise_multiplier=30.0, max_epochs=3, **BOUNDS),
        DPRegressor("linear", epsilon=4.0, max_epochs=3, **BOUNDS),
    ],
)
def test_plan_equals_the_statement_of_a_fit(model, data):
    X, y = data
    found = skdp.plan(n=600, n_features=4, estimator=model)
    statement = model.fit(X, y).privacy_
    assert (found.delta, found.adjacency, found.n) == (statement.delta, statement.adjacency, statement.n)
    assert (found.steps, found.sampling_rate) == (statement.steps, statement.sampling_rate)
    assert found.noise_multiplier == statement.noise_multiplier
    assert found.other_adjacencies[found.adjacency] == pytest.approx(statement.epsilon, rel=1e-3)
    for adjacency, cost in found.other_adjacencies.items():
        assert cost == pytest.approx(epsilon(statement.event, statement.delta, adjacency), rel=1e-9)
    assert found.attack_accuracy == attack_accuracy(found.epsilon, found.delta)


def test_pipeline_and_search(data):
    model = DPClassifier("linear", classes=[0, 1], max_epochs=3, **BOUNDS)
    pipe = make_private_pipeline(DPFeatureRelease(**BOUNDS), DPFeatureRelease(**BOUNDS), epsilon=2.0)
    assert skdp.plan(n=600, n_features=4, estimator=pipe).verdict is None
    search = DPSearchCV(model, {"lr": [0.1, 1.0]}, epsilon=2.0, mean_trials=4)
    planned = skdp.plan(n=600, n_features=4, estimator=search)
    alone = skdp.plan(n=600, n_features=4, estimator=model, epsilon=2.0)
    assert planned.mean_trials == 4 and planned.other_adjacencies["replace-one"] is None
    assert planned.other_adjacencies["add-remove"] is None  # DPSearchCV refuses estimators of that adjacency
    assert planned.noise_multiplier > 1.3 * alone.noise_multiplier
    assert planned.signal < alone.signal / 1.3
    charge = search.fit(*data).privacy_.event
    assert epsilon(charge, planned.delta) == pytest.approx(planned.other_adjacencies["zero-out"], rel=1e-9)


def test_numbers_by_position_and_estimators_that_cannot_be_planned():
    assert skdp.plan(3000, 13) == skdp.plan(n=3000, n_features=13)
    with pytest.raises(TypeError, match="DPADMMClassifier cannot say what it costs.*number of rows"):
        skdp.plan(3000, 13, estimator=DPADMMClassifier())
    with pytest.raises(TypeError, match=r"pass an instance, DPClassifier\(\)"):
        skdp.plan(3000, 13, estimator=DPClassifier)
    with pytest.raises(TypeError, match="'n' and 'n_features'"):
        skdp.plan(estimator=DPClassifier())


def test_shares_of_private_bounds():
    private = skdp.plan(n=2000, n_features=5, estimator=DPRegressor())
    public = skdp.plan(n=2000, n_features=5, estimator=DPRegressor(y_bounds=(0, 1), **BOUNDS))
    assert private.estimates_share == pytest.approx(0.08 / 1.08) and public.estimates_share == 0
    assert private.noise_multiplier > public.noise_multiplier
    assert math.fsum(release.share for release in private.releases) == pytest.approx(1)


def test_declared_number_of_rows():
    found = skdp.plan(n=2000, n_features=5, adjacency="add-remove")
    assert found.adjacency == "add-remove" and "declared rows" in str(found)
    assert skdp.plan(n=2000, n_features=5, estimator=DPClassifier(adjacency="add-remove", n_public=7)).n == 2000


def test_no_data_and_no_change_of_the_estimator(data):
    model = DPClassifier(classes=[0, 1], epsilon=2.0)
    before = repr(model.get_params())
    # More rows than any memory holds: nothing of their number is ever made.
    found = skdp.plan(n=10**12, n_features=50, estimator=model, epsilon=1.0, delta=1e-14)
    assert found.verdict == "nonlinear" and repr(model.get_params()) == before
    assert not hasattr(model, "_vocabulary")


# ------------------------------------------------------------------ the verdict
def test_verdict_goes_up_with_rows_and_epsilon_and_down_with_columns():
    order = ["prior", "linear", "nonlinear"]

    def rank(**given):
        return order.index(skdp.plan(**{"n": 2000, "n_features": 20, "epsilon": 1.0} | given).verdict)

    for name, values in {"n": (60, 1000, 50_000), "epsilon": (0.01, 0.3, 8.0), "n_features": (2000, 100, 3)}.items():
        ranks = [rank(**{name: value}) for value in values]
        assert ranks == sorted(ranks) and ranks[0] == 0 and ranks[-1] > 0, name
    assert rank(n_features=100, n_indicators=90) > rank(n_features=100, epsilon=0.1)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_what_is_said_to_be_needed_is_enough(task):
    start = {"n": 500, "n_features": 20, "epsilon": 0.02, "task": task, "delta": 1e-7}
    found = skdp.plan(**start)
    while found.next_verdict is not None:
        wanted = found.next_verdict
        more_rows = skdp.plan(**start | {"n": math.ceil(1.01 * found.next_rows)})
        assert more_rows.verdict == wanted
        assert skdp.plan(**start | {"n": int(0.97 * found.next_rows)}).verdict != wanted
        if found.next_epsilon is not None:
            assert skdp.plan(**start | {"epsilon": 1.01 * found.next_epsilon}).verdict == wanted
            assert skdp.plan(**start | {"epsilon": 0.97 * found.next_epsilon}).verdict != wanted
        start["n"], found = math.ceil(1.01 * found.next_rows), more_rows


def test_too_few_rows_for_any_epsilon():
    facts = Public(n=100, input_shape=(20,), n_outputs=1, task="binary")
    assert signal_for("nonlinear", facts) == math.inf and verdict_of(facts, 1e9) == "linear"
    assert rows_for("nonlinear", facts, 1e9) == pytest.approx(800)
    assert "no sensible epsilon" in skdp.plan(n=100, n_features=20, epsilon=8.0)._repr_html_()


def test_a_fit_that_warns_of_its_signal_has_the_verdict_prior(data):
    X, y = data
    with pytest.warns(WeakSignalWarning):
        DPClassifier("linear", classes=[0, 1], epsilon=0.005, max_epochs=1, **BOUNDS).fit(X, y)
    assert skdp.plan(n=600, n_features=4, epsilon=0.005).verdict == "prior"
    facts = Public(n=100, input_shape=(20,), n_outputs=1, task="binary")
    assert hopeless_signal(facts) <= signal_for("linear", facts)


def test_linear_nets_have_no_nonlinear_detail():
    found = skdp.plan(n=100_000, n_features=5, estimator=DPClassifier("linear"))
    assert found.verdict == "linear" and found.next_verdict is None
    images = skdp.plan(n=10_000, n_features=(28, 28), n_classes=10, epsilon=2.0)
    assert images.task == "multiclass" and "the verdict is that of the default net" in images.notes[0]


# ------------------------------------------------------------------ words, and refusals
def test_text_html_and_json():
    found = skdp.plan(n=400, n_features=20, epsilon=0.1)
    text = str(found)
    assert "no better than the prior" in text and "coin flip" in text and "replace-one" in text
    assert max(map(len, text.splitlines())) <= 100
    assert "no better than the prior" in found._repr_html_()
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["verdict"] == "prior" and plain["releases"][0]["count"] == 1
    assert isinstance(found, FitPlan) and found.next_rows > 400
    with pytest.raises(AttributeError):
        found.verdict = "nonlinear"


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"n": 0}, "n=0"),
        ({"n_features": 0}, "n_features"),
        ({"n_indicators": 9}, "n_indicators=9"),
        ({"epsilon": math.inf}, "epsilon=inf"),
        ({"epsilon": -1}, "epsilon=-1"),
        ({"delta": 0.5}, "delta"),
        ({"task": "ranking"}, "task='ranking'"),
        ({"n_classes": 1}, "n_classes=1"),
        ({"adjacency": "swap"}, "adjacency='swap'"),
        ({"task": "regression", "n_classes": 3}, "n_classes=3"),
        ({"estimator": DPClassifier(classes=[0, 1, 2]), "n_classes": 2}, "n_classes=2"),
        ({"estimator": DPClassifier(), "task": "regression"}, "task='regression'"),
        ({"estimator": DPSearchCV(DPClassifier(), {"lr": [1.0]}), "adjacency": "replace-one"}, "zero-out"),
    ],
)
def test_refusals(wrong, message):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        skdp.plan(**{"n": 1000, "n_features": 5} | wrong)


def test_only_private_estimators():
    with pytest.raises(TypeError, match="cannot say what it costs"):
        skdp.plan(n=1000, n_features=5, estimator=LogisticRegression())
