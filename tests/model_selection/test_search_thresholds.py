"""Private selection among models that discover categories: what their thresholds may fail with."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from sklearn.compose import make_column_transformer

import skdp
from skdp import DPClassifier
from skdp.accounting import PrivacyStatement, calibrate, epsilon, verify
from skdp.accounting.selection import ceiling_of, selection_charge
from skdp.contract import Charge, Gaussian, Poisson, Public, Selection, Touch
from skdp.exceptions import BudgetExceededError
from skdp.model_selection import DPSearchCV
from skdp.model_selection.search_price import trial_of
from skdp.model_selection.search_trials import Candidates, Trials
from skdp.model_selection.trials import probabilities
from skdp.pipeline import make_private_pipeline
from skdp.preprocessing import DPOneHotEncoder, DPTableVectorizer

FALSE_ALARM = 1e-6
N = 600


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    jobs, towns = rng.choice(["a", "b"], N), rng.choice(["u", "v"], N)
    X = pd.DataFrame({"age": rng.uniform(18, 90, N), "job": jobs, "town": towns})
    X.loc[3, "job"] = "lonely"
    return X, (X["age"] > 50).astype(int).to_numpy()


def classifier():
    return DPClassifier("linear", classes=[0, 1], feature_bounds=None, max_epochs=2)


def tabular(**schema):
    return make_private_pipeline(DPTableVectorizer(schema or None), classifier())


def search(estimator, space=None, **params):
    space = space or {"dpclassifier__lr": [0.1, 1.0]}
    params = {"epsilon": 4.0, "delta": 1e-4, "mean_trials": 5, "trials": "geometric"} | params
    return DPSearchCV(estimator, space, **params)


def discovery(multiplier, fail):
    return Charge((Touch("column categories", Poisson(), Gaussian((multiplier,)), 1),), delta_fail=fail)


# ------------------------------------------------------------------ the price
def test_the_price_is_that_of_the_renyi_bound_at_what_is_left_of_delta():
    """Theorem 2 of Papernot and Steinke for the geometric distribution and one Gaussian, by hand."""
    z, mean, delta, fail = 12.0, 8.0, 1e-5, 5e-7
    charge = selection_charge(discovery(z, fail), mean, 1.0)
    assert charge.delta_fail == pytest.approx(4e-6) and charge.touches[0].noise.mean == mean
    left = math.log(1e-5 - 4e-6)
    most = 2 * (math.sqrt(2 * math.log(mean)) / z - 0.5 / z**2)  # at the order that is best for it

    def bound(order):
        renyi = order / (2 * z**2) + math.log(mean) / (order - 1) + most
        return renyi + math.log1p(-1 / order) - (left + math.log(order)) / (order - 1)

    exact = optimize.minimize_scalar(bound, bounds=(1.01, 500), method="bounded").fun
    found = epsilon(charge.event(), delta - charge.delta_fail)
    assert exact <= found <= 1.002 * exact
    assert found > 1.01 * epsilon(charge.event(), delta)  # that part of delta is paid for
    assert PrivacyStatement.from_charge(charge, delta, mechanism="search", n=1000).epsilon == found


@pytest.mark.parametrize("mean, shape", list(itertools.product([1.0, 2.5, 30.0], [0.0, 1.0, 4.0])))
def test_a_failure_in_any_run_is_at_most_as_likely_as_the_price_says(mean, shape):
    fail = 1e-3
    charge = selection_charge(discovery(1.0, fail), mean, shape)
    counts, shares = np.array(list(itertools.islice(probabilities(mean, shape), 5000))).T
    any_run = shares @ (1 - (1 - fail) ** counts)
    # The union bound loses half of fail times E[K (K - 1)], and nothing else.
    assert charge.delta_fail == mean * fail and any_run <= charge.delta_fail * (1 + 1e-12)
    assert any_run >= charge.delta_fail - fail**2 * (shares @ (counts * (counts - 1))) / 2 - 1e-12


def test_the_ceiling_rests_on_what_is_left_of_delta():
    def whole(scale):
        return selection_charge(discovery(scale, 1e-6), 8.0, 1.0)

    found = calibrate(whole, 1.0, 1e-5)
    assert found.charge.delta_fail == pytest.approx(8e-6) and found.epsilon <= 1.0
    assert ceiling_of(found.charge, 1.0, 1e-5).gaussian == pytest.approx(found.scale, rel=1e-6)
    with pytest.raises(ValueError, match="used up"):
        ceiling_of(found.charge, 1.0, 8e-6)


# ------------------------------------------------------------------ the thresholds of trials
def test_all_trials_together_take_a_tenth_of_delta_for_each_step_with_thresholds(table):
    """By hand: delta 1e-4 over 5 trials is 2e-5, of which a step takes a tenth, and 5 times that is 1e-5."""
    one = search(tabular())
    step = trial_of(one, 1e-4).privacy_charge(one.facts_of(*table), 1.0)
    assert step.delta_fail == pytest.approx(2e-6)
    assert one.privacy_charge(one.facts_of(*table), 1.0).delta_fail == pytest.approx(1e-5)
    encoders = make_column_transformer(
        (DPOneHotEncoder(sparse_output=False), ["job"]), (DPOneHotEncoder(sparse_output=False), ["town"])
    )
    two = search(make_private_pipeline(encoders, classifier()))
    assert two.privacy_charge(two.facts_of(*table), 1.0).delta_fail == pytest.approx(2e-5)
    none = search(tabular(age=(18, 90), job=["a", "b"], town=["u", "v"]))
    assert none.privacy_charge(none.facts_of(*table), 1.0).delta_fail == 0


class Watched(Trials):
    """Trials that note down whether they showed the rare value."""

    def run(self, params, noise):
        found = super().run(params, noise)
        self.scoring.shown.append("rare" in found[1].categories_[0])
        return found


class Indifferent:
    """A score that is the same for all."""

    def __init__(self):
        self.shown = []

    def __call__(self, model, X, y):
        return np.full(len(y), 0.5)


def searches_that_show_a_rare_value(times, most, delta_of_a_trial=None):
    """In how many searches, until there are more than `most`, any trial shows the category of one row."""
    delta, X, y = 0.4, pd.DataFrame({"town": ["rare", None]}), np.zeros(2)
    many = search(DPOneHotEncoder(), {"max_categories": [None]}, mean_trials=30, trials="poisson")
    template, public = trial_of(many, delta), Public(2, (1,), 0, "regression")
    assert many._charge(template, public, 3.0).delta_fail == pytest.approx(0.1 * delta)
    if delta_of_a_trial:
        template.set_params(delta=delta_of_a_trial)
    trials = Watched(template, public, None, 3.0, ((X, y), (X, y)), Indifferent(), 0.0)
    count = 0
    for _ in range(times):
        trials.scoring.shown.clear()
        trials.best(Candidates(many.param_distributions, 0.5), 30.0, None, None)
        count += any(trials.scoring.shown)
        if count > most:
            break
    return count


@pytest.mark.slow
def test_hardly_any_search_shows_a_category_of_one_row():
    """The neighbour, whose row is null, never shows it. False alarm 1e-6; thresholds that every trial sets for a tenth
    of the delta of all are caught, power above 0.999.
    """
    most = stats.binom.isf(FALSE_ALARM, 25, 0.1 * 0.4)
    assert searches_that_show_a_rare_value(25, most) <= most
    assert searches_that_show_a_rare_value(25, most, delta_of_a_trial=0.4) > most


# ------------------------------------------------------------------ the search
def test_a_raw_table_is_searched_and_its_statement_can_be_verified(table):
    X, y = table
    found = search(tabular(), random_state=0).fit(X, y)
    statement = found.privacy_
    assert statement.epsilon <= 4.0 and statement.delta == 1e-4 and statement.delta_fail == pytest.approx(1e-5)
    assert verify(statement).holds and PrivacyStatement.from_json(statement.to_json()) == statement
    assert not verify(dataclasses.replace(statement, delta_fail=9e-5)).holds
    assert "for thresholds that may fail" in statement.text
    assert found.best_estimator_.privacy_ == statement and found.predict_proba(X).shape == (N, 2)
    assert "lonely" not in found.best_estimator_.steps[0][1].columns_["job"]
    # The price follows from public facts, the types of the columns among them, and is what the fit reserved.
    scale = calibrate(lambda scale: found.privacy_charge(found.facts_of(X, y), scale), 4.0, 1e-4).scale
    assert found.privacy_charge(found.facts_of(X, y), scale).event() == statement.event


def test_a_ledger_has_to_set_delta_aside_for_a_search(table):
    with skdp.PrivacyLedger(10.0, 2e-4, delta_fail=0.0), pytest.raises(BudgetExceededError, match="delta_fail"):
        search(tabular()).fit(*table)
    with skdp.PrivacyLedger(10.0, 2e-4, delta_fail=1e-5) as ledger:
        search(tabular()).fit(*table)
    assert ledger.statement.delta_fail == 1e-5 and verify(ledger.statement).holds
    assert "param_distributions" in ledger.statement.public


def test_candidates_may_not_fail_more_often_than_the_estimator_as_passed(table):
    known = {"job": ["a", "b"], "town": ["u", "v"]}
    more = search(tabular(**known), {"dptablevectorizer__schema": [None, known]})
    with pytest.raises(ValueError, match="threshold"):
        more.fit(*table)
    assert not hasattr(more, "_failed") and not hasattr(more, "_statement")
    fewer = search(tabular(), {"dptablevectorizer__schema": [known], "dptablevectorizer__max_categories": [5]})
    assert fewer.set_params(unchanged_share=0.0).fit(*table).best_params_["dptablevectorizer__schema"] == known
    with pytest.raises(ValueError, match="cannot be tuned"):
        search(tabular(), {"dptablevectorizer__delta": [1e-3]}).fit(*table)
    with pytest.raises(ValueError, match="zero-out"):
        search(tabular().set_params(adjacency="replace-one")).fit(*table)


def test_facts_are_carried_to_the_price_of_a_trial():
    facts = Public(1000, (2,), 1, "binary", columns=(("age", "numeric"), ("town", "categorical")))
    charge = search(tabular(), trials="logarithmic").privacy_charge(facts, 2.0)
    names = [touch.name for touch in charge.touches[0].noise.touches]
    assert isinstance(charge.touches[0].noise, Selection)
    assert "dptablevectorizer: column range" in names and "dptablevectorizer: column categories" in names
