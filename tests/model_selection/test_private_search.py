"""Private selection of hyperparameters."""

import itertools
import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from dp_accounting.rdp import rdp_privacy_accountant
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback

from skdp import DPClassifier, DPRegressor
from skdp.accounting import PrivacyStatement, verify
from skdp.accounting.selection import ceiling_of
from skdp.contract import Charge, Gaussian, Poisson, Public, Selection, Touch
from skdp.exceptions import PlanViolationError, PrivacyLeakWarning, WeakPrivacyWarning
from skdp.model_selection import DPSearchCV, search_trials
from skdp.model_selection.search_trials import Candidates, Trials
from skdp.model_selection.trials import draw_trials, gamma_of, probabilities
from skdp.pipeline import PrivatePipeline, make_private_pipeline
from skdp.preprocessing import DPMinMaxScaler, DPOneHotEncoder

FALSE_ALARM = 1e-6


@pytest.fixture(scope="module")
def data():
    X = np.random.default_rng(0).uniform(-1, 1, (1500, 3))
    return X, (X[:, 0] > 0).astype(int)


def classifier(**params):
    return DPClassifier("linear", **{"classes": [0, 1], "feature_bounds": (-1, 1), "max_epochs": 3} | params)


def search(estimator=None, space=None, **params):
    params = {"epsilon": 3.0, "mean_trials": 4} | params
    return DPSearchCV(estimator or classifier(), space or {"lr": [1e-6, 1.0]}, **params)


# ------------------------------------------------------------------ the number of trials
@pytest.mark.parametrize("mean, shape", list(itertools.product([1.0, 3.0, 40.0], [0.0, 0.5, 1.0, 3.0])))
def test_number_of_trials_has_the_stated_distribution(mean, shape):
    counts, shares = np.array(list(itertools.islice(probabilities(mean, shape), 20_000))).T
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    assert counts @ shares == pytest.approx(mean, rel=1e-6)
    # Papernot and Steinke (2022), definition 1
    gamma = gamma_of(mean, shape)
    k = np.arange(1, 6)
    if gamma < 1:
        if shape:
            rising = np.cumprod((k - 1 + shape) / k)
            expected = (1 - gamma) ** k / (gamma**-shape - 1) * rising
        else:
            expected = (1 - gamma) ** k / (k * math.log(1 / gamma))
        np.testing.assert_allclose(shares[:5], expected, rtol=1e-9)


@pytest.mark.parametrize("mean", [1 + 1e-7, 1.5, 10.0, 1000.0])
def test_the_mean_number_of_trials_is_exact(mean):
    """Failure probabilities are multiplied by it, and the bound rests on it."""
    assert 1 / gamma_of(mean, 1.0) - 1 == pytest.approx(mean - 1, rel=1e-8)  # geometric
    gamma = gamma_of(mean, 0.0)  # logarithmic
    assert gamma == 1 or (1 / gamma - 1) / math.log(1 / gamma) == pytest.approx(mean, rel=1e-8)
    for shape in (0.0, 0.5, 1.0, 3.0):
        theirs = rdp_privacy_accountant._gamma_truncated_negative_binomial(shape, mean)
        assert gamma_of(mean, shape) == pytest.approx(theirs, rel=1e-6)


def test_draws_follow_the_probabilities():
    rng, n = np.random.default_rng(0), 20_000
    drawn = np.bincount([draw_trials(rng, 3.0, 1.0) for _ in range(n)], minlength=6)[:6] / n
    expected = stats.geom(1 / 3).pmf(np.arange(6))
    assert np.abs(drawn - expected).max() < stats.norm.isf(FALSE_ALARM / 12) * 0.5 / n**0.5
    assert {draw_trials(rng, 1.5, None) for _ in range(200)} >= {0, 1, 2}


# ------------------------------------------------------------------ what a run may cost
def test_other_price_lists_stay_below_the_ceiling():
    def at(noise, rate=1.0, count=110):
        return Charge((Touch("gradient", Poisson(rate), Gaussian((noise,)), count),))

    def whole(charge):
        return Charge((Touch("search", Poisson(), Selection(charge.touches, 8.0, 1.0), 1),))

    from skdp.accounting import calibrate, epsilon

    found = calibrate(lambda scale: whole(at(scale)), 1.0, 1e-6)
    ceiling = ceiling_of(found.charge, 1.0, 1e-6)
    for other in ({"count": 20}, {"rate": 0.05, "count": 400}, {"rate": 0.2, "count": 1000}):
        scale = ceiling.scale(lambda noise, other=other: at(noise, **other))
        assert epsilon(whole(at(scale, **other)).event(), 1e-6) <= 1.01
        assert epsilon(whole(at(scale * 0.9, **other)).event(), 1e-6) > 1.0
    # One Gaussian costs the same at all orders, so there the ceiling is met exactly.
    assert ceiling.scale(at) == pytest.approx(found.scale, rel=2e-3)
    assert ceiling.gaussian == pytest.approx(found.scale / 110**0.5, rel=1e-6)


# ------------------------------------------------------------------ the search
def test_it_finds_the_better_candidate_within_one_budget(data):
    found = search(mean_trials=12, trials="geometric", random_state=0, unchanged_share=0).fit(*data)
    statement = found.privacy_
    assert 2.98 < statement.epsilon <= 3.0 and statement.accountant == "rdp" and statement.n == 1500
    assert statement.steps == 1 and "trials trained on a part" in statement.split
    assert verify(statement).holds
    assert PrivacyStatement.from_json(statement.to_json()) == statement
    assert set(found.cv_results_) == {"params", "mean_test_score", "rank_test_score", "param_lr"}
    assert len(found.cv_results_["params"]) == 1
    again = pickle.loads(pickle.dumps(found))
    assert (again.predict(data[0]) == found.predict(data[0])).all() and again.privacy_ == statement
    assert clone(found).get_params()["mean_trials"] == 12
    assert found.n_features_in_ == 3 and found.predict_proba(data[0]).shape == (1500, 2)


def test_every_trial_is_worth_the_budget_and_no_more(data, monkeypatch):
    seen = []

    def spy(self, params, noise, run=Trials.run):
        score, model, params = run(self, params, noise)
        seen.append((model.privacy_.noise_multiplier, model.max_epochs))
        return score, model, params

    monkeypatch.setattr(Trials, "run", spy)
    monkeypatch.setattr(search_trials, "draw_trials", lambda *_: 16)
    search(space={"max_epochs": [2, 3, 12]}, unchanged_share=0.25).fit(*data)  # all alike with probability 2e-5
    by_epochs = {epochs: noise for noise, epochs in seen}
    assert len(by_epochs) > 1
    precision = {epochs: epochs / noise**2 for epochs, noise in by_epochs.items()}
    assert max(precision.values()) == pytest.approx(min(precision.values()), rel=5e-3)


def test_scores_are_noisy_and_no_trial_is_released(data, monkeypatch):
    sure = search(space={"lr": [1.0]}, validation_public=data)
    assert sure.fit(*data).best_score_ == pytest.approx(
        search_trials.row_scores("neg_log_loss", sure.best_estimator_, *data).mean()
    )
    noises = []

    def spy(self, params, noise, run=Trials.run):
        noises.append(noise / self.ceiling.gaussian)
        return 0.5, classifier(), params

    monkeypatch.setattr(Trials, "run", spy)
    monkeypatch.setattr(search_trials, "draw_trials", lambda *_: 4000)
    search().fit(*data)
    total = (np.square(noises) / 0.25).sum()
    low, high = stats.chi2(4000).ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2])
    assert low < total < high and not low < total * (2 / 3) ** 2 < high


def test_no_trial_gives_the_default(data, monkeypatch):
    monkeypatch.setattr(search_trials, "draw_trials", lambda *_: 0)
    found = search(trials="poisson").fit(*data)
    assert found.best_params_ == {} and math.isnan(found.best_score_)
    np.testing.assert_array_equal(found.predict_proba(data[0][:2]), 0.5)
    assert found.privacy_.epsilon > 2.9  # that there was none is part of the release
    own = LogisticRegression().fit(*data)
    assert search(trials="poisson", default=own).fit(*data).best_estimator_ is own
    y = data[0][:, 0]
    regressor = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(2, 4), max_epochs=2)
    assert search(regressor, trials="poisson").fit(data[0], y).predict(data[0][:1]) == 3.0


def test_an_interrupted_search_shows_nothing_and_stays_charged(data, monkeypatch):
    found = search()

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "run", stop)
    with pytest.raises(KeyboardInterrupt):
        found.fit(*data)
    assert not hasattr(found, "best_estimator_") and found.privacy_.epsilon > 2.9
    monkeypatch.undo()
    found.fit(*data)
    assert found.privacy_.epsilon > 3.0


def test_a_trial_that_costs_more_than_was_paid_is_refused(data, monkeypatch):
    def sly(self, *args, **kwargs):
        return fit(self.set_params(noise_multiplier=self.noise_multiplier / 2), *args, **kwargs)

    fit = DPClassifier.fit
    monkeypatch.setattr(DPClassifier, "fit", sly)
    with pytest.raises(PlanViolationError):
        search(trials=1.0).fit(*data)


def test_trials_are_silent(data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(classifier(verbose=1, feature_bounds="private")).fit(*data)
    with pytest.warns(PrivacyLeakWarning, match="classes"):
        found = search(classifier(classes=None)).fit(*data)
    assert any("read from y" in line for line in found.privacy_.public)


def test_split_depends_on_the_number_of_rows_alone(data):
    X, y = data
    one = search(random_state=3)._split(1500, X, y)
    two = search(random_state=3)._split(1500, -X, 1 - y)
    np.testing.assert_array_equal(one[1][0], -two[1][0])
    assert len(one[1][0]) == 300


def test_pipelines_regressors_and_workers(data):
    X, y = data
    pipe = make_private_pipeline(classifier(feature_bounds="private"))
    found = search(pipe, {"dpclassifier__lr": [0.1, 1.0]}, n_jobs=2).fit(X, y)
    assert found.privacy_.epsilon <= 3.0 and found.predict(X).shape == (1500,)
    regressor = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(-1, 1), max_epochs=3)
    found = search(regressor, {"lr": stats.loguniform(0.01, 1.0)}, scoring="neg_mean_absolute_error").fit(X, X[:, 0])
    assert 0 <= found.best_score_ <= 1.5 and found.score(X, X[:, 0]) < 1


@pytest.mark.parametrize(
    "params, word",
    [
        ({"epsilon": math.inf}, "epsilon"), ({"epsilon": -1}, "epsilon"), ({"mean_trials": 0.5}, "mean_trials"),
        ({"trials": "uniform"}, "trials"), ({"trials": -1}, "trials"), ({"validation_size": 1.0}, "validation_size"),
        ({"scoring": "roc_auc"}, "scoring"), ({"estimator": LogisticRegression()}, "not private"),
        ({"estimator": classifier(adjacency="replace-one")}, "adjacency"), ({"space": {"nothing": [1]}}, "nothing"),
        ({"estimator": classifier(warm_start=True)}, "warm_start"), ({"space": {"module": ["no such net"]}}, "module"),
        ({"delta": 0.1}, "delta"),
        ({"unchanged_share": 1.5}, "unchanged_share"),
    ],
)  # fmt: skip
def test_nonsense_costs_nothing(data, params, word):
    found = search(**params)
    with pytest.raises(ValueError, match=word):
        found.fit(*data)
    assert not hasattr(found, "_failed") and not hasattr(found, "_statement")


def test_price_follows_from_public_facts(data):
    found = search(random_state=0)
    charge = found.privacy_charge(Public(1500, (3,), 1, "binary"), 2.0)
    assert charge.touches[0].noise.mean == 4 and charge.touches[0].noise.touches[0].noise.multipliers == (2.0,)


def test_nothing_watches_a_trial_or_costs_what_no_bound_covers(data):
    for name, value in {"callbacks": [None], "verbose": [1], "warm_start": [True], "insecure_noise_seed": [3]}.items():
        with pytest.raises(ValueError, match="cannot be tuned"):
            search(space={name: value}).fit(*data)
    with pytest.raises(ValueError, match="insecure_noise_seed"):
        search(classifier(insecure_noise_seed=1)).fit(*data)
    table = pd.DataFrame({"a": ["u", "v"] * 750})
    encoder = DPOneHotEncoder(categories=[["u", "v"]], sparse_output=False)
    pipe = make_private_pipeline(encoder, classifier(feature_bounds=None))
    with pytest.raises(ValueError, match="threshold"):
        search(pipe, {"dponehotencoder__categories": [None]}).fit(table, data[1])


@pytest.mark.parametrize(
    "given",
    [{"callbacks": [Callback()]}, {"insecure_noise_seed": 3}, {"verbose": 1}, {"warm_start": True}],
    ids=lambda given: next(iter(given)),
)
@pytest.mark.parametrize("whole", [False, True])
def test_a_candidate_that_is_a_whole_step_brings_in_nothing_that_watches(data, given, whole):
    pipe = PrivatePipeline([("scaler", DPMinMaxScaler(feature_range=(-1, 1))), ("clf", classifier())])
    sly = classifier(**given)
    space = {"steps": [pipe.steps, [*pipe.steps[:-1], ("clf", sly)]]} if whole else {"clf": [classifier(), sly]}
    found = search(pipe, space)
    with pytest.raises(ValueError, match=f"a value of '{next(iter(space))}' has clf__{next(iter(given))}="):
        found.fit(*data)
    assert not hasattr(found, "_failed") and not hasattr(found, "_statement")


def test_steps_can_be_candidates_where_they_are_listed(data):
    class Steps:
        def rvs(self, random_state=None):
            return classifier()

    pipe = PrivatePipeline([("scaler", DPMinMaxScaler(feature_range=(-1, 1))), ("clf", classifier())])
    found = search(pipe, {"clf": [classifier(lr=0.5)]}, unchanged_share=0).fit(*data)
    assert found.best_params_["clf"].lr == 0.5
    with pytest.raises(ValueError, match="list them"):
        search(pipe, {"clf": Steps()}).fit(*data)


def test_chance_decides_among_equal_scores(data, monkeypatch):
    """The tenth trial of ten wins in about every tenth search; it never did, as the first of them always won."""
    monkeypatch.setattr(Trials, "run", lambda self, params, noise: (0.5, None, params))
    monkeypatch.setattr(search_trials, "draw_trials", lambda *_: 10)
    numbers = itertools.cycle(range(10))
    monkeypatch.setattr(Candidates, "draw", lambda self, secret: next(numbers))
    trials = Trials(None, None, None, 1.0, ((None, None), (None, None)), None, 0.0)
    n = 1000
    found = np.bincount([trials.best(Candidates({}, 0.5), 10.0, 0.0, None)[2] for _ in range(n)], minlength=10)
    assert found.sum() == n and stats.chisquare(found).pvalue > FALSE_ALARM


def test_the_statement_says_what_a_trial_takes_as_public(data):
    found = search(scoring=lambda model, X, y: np.ones(len(y))).fit(*data)
    assert any("feature bounds" in line for line in found.privacy_.public)
    assert "scoring= looks at each row alone" in found.privacy_.assumptions
    assert found.best_estimator_.privacy_ == found.privacy_
    with pytest.warns(WeakPrivacyWarning):
        search(epsilon=50.0).fit(*data)


def test_rows_that_a_model_cannot_take_tell_nothing(data):
    X, y = data[0].copy(), data[0][:, 0].astype(object)
    X[:, 1] = np.where(np.arange(1500) % 7, X[:, 1], np.nan)
    y[5::11] = "secret"
    regressor = DPRegressor("linear", feature_bounds=(-1, 1), y_bounds=(-1, 1), max_epochs=2, on_invalid="null")
    assert 0 <= search(regressor).fit(X, y).best_score_ <= 1.5
    pipe = make_private_pipeline(regressor.set_params(on_invalid="raise"))
    assert 0 <= search(pipe, {"dpregressor__lr": [0.1]}).fit(data[0], data[0][:, 0]).best_score_ <= 1.5


# ------------------------------------------------------------------ what is tried, and how it is scored
def test_a_share_of_the_trials_changes_nothing():
    secret, n = np.random.default_rng(0), 4000
    drawn = [
        Candidates([{"lr": [1.0]}, {"lr": stats.uniform(), "momentum": [0.5]}], 0.3).draw(secret) for _ in range(n)
    ]
    unchanged = sum(params == {} for params in drawn)
    low, high = stats.binom.ppf([FALSE_ALARM / 2, 1 - FALSE_ALARM / 2], n, 0.3)
    assert low <= unchanged <= high and not low <= unchanged * 2 / 3 <= high
    assert {tuple(params) for params in drawn} == {(), ("lr",), ("lr", "momentum")}
    sure, never = (Candidates({"lr": [1.0]}, share) for share in (1, 0))
    assert sure.draw(secret) == {} and never.draw(secret) == {"lr": 1.0}


def test_the_estimator_as_passed_can_win(data):
    found = search(unchanged_share=1.0).fit(*data)
    assert found.best_params_ == {} and not math.isnan(found.best_score_)
    assert set(found.cv_results_) == {"params", "mean_test_score", "rank_test_score"}


@pytest.mark.parametrize("classes", [2, 10])
def test_log_losses_count_down_to_a_sixteenth_of_guessing(classes):
    class Sure:
        classes_ = np.arange(classes)

        def predict_proba(self, X):
            rest = (1 - X[:, :1]) / (classes - 1)
            return np.hstack([X[:, :1], np.repeat(rest, classes - 1, axis=1)])

    chances = np.array([1.0, 1 / classes, 1 / classes**2, 1 / (16 * classes), 1e-9])
    found = search_trials.row_scores("neg_log_loss", Sure(), chances[:, None], np.zeros(5))
    worst = math.log(16 * classes)
    np.testing.assert_allclose(
        found, [1, 1 - math.log(classes) / worst, 1 - 2 * math.log(classes) / worst, 0, 0], atol=1e-9
    )


# ------------------------------------------------------------------ how noisy the score is
def test_the_stated_error_is_that_of_the_noise(data, monkeypatch):
    """A scoring that gives 1/2 to all rows leaves noise alone, and one trial leaves no choice; 5 sigma of 40 draws."""
    monkeypatch.setattr(search_trials, "row_scores", lambda scoring, model, X, y: np.full(len(y), 0.5))
    fits = [search(mean_trials=1, trials="geometric").fit(*data) for _ in range(40)]
    (stated,) = {fit.best_score_std_error_ for fit in fits}
    z = (np.array([fit.best_score_ for fit in fits]) - 0.5) / stated
    assert abs(np.sqrt(np.mean(z**2)) - 1) < 5 / np.sqrt(80)


def test_the_error_of_the_score_is_shown(data):
    found = search().fit(*data)
    assert 0 < found.best_score_std_error_ < 0.1
    assert f"of 300 rows, with noise of standard deviation {found.best_score_std_error_:.2g}" in " ".join(
        found.privacy_.warnings
    )
    assert f"best_score_ = {found.best_score_:.4g} +- {found.best_score_std_error_:.2g} (noise alone)" in str(found)
    assert "(noise alone) (log loss, rescaled to [0, 1]; 1 is best), best_params_" in str(found)
    assert str(search()) == repr(search())
    public = search(validation_public=data).fit(*data)
    assert public.best_score_std_error_ == 0 and "on public rows" in str(public)
    assert "standard deviation" not in " ".join(public.privacy_.warnings)
