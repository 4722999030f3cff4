"""Fits that share their steps share nothing else."""

from __future__ import annotations

import math
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold, ParameterGrid

from skdp import DPClassifier, DPRegressor
from skdp.accounting import FitBook, compose
from skdp.exceptions import NotFittedError, NotPrivateWarning, PrivacyLeakWarning
from skdp.mechanisms import DPSGD
from skdp.model_selection import DPSweepCV, fit_many, sweeps
from skdp.nets import MLP
from skdp.neural_network import shared_steps, together
from skdp.optimizers import SGD
from skdp.training.stacked import StackedExecutor

N = 240
X = np.random.default_rng(0).uniform(-1, 1, size=(N, 3))
Y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
CASES = [{"lr": 0.1, "max_grad_norm": 1.0}, {"lr": 0.5, "max_grad_norm": 0.2}, {"lr": 0.3, "max_grad_norm": 0.5}]


def classifier(**options):
    given = {"module": "linear", "classes": [0, 1], "feature_bounds": (-1, 1), "batch_size": 12, "max_epochs": 2}
    return DPClassifier(**{**given, "noise_multiplier": 1.0, "epsilon": None, "random_state": 0, **options})


def weights(model):
    return torch.cat([p.detach().ravel() for p in model.module_.parameters()])


@pytest.fixture
def stacks():
    """Sizes of the groups that shared their steps."""
    sizes = []

    def spy(fits):
        sizes.append(len(fits))
        shared_steps.train_together(fits)

    with mock.patch.object(together, "train_together", spy):
        yield sizes


def both(model, candidates, y=Y, **options):
    """Together, and one by one on the same draws."""
    seeded = [{**params, "insecure_noise_seed": i} for i, params in enumerate(candidates)]
    alone = []
    for i, params in enumerate(seeded):
        part = slice(None) if "rows" not in options else options["rows"][i]
        alone.append(clone(model).set_params(**params).fit(X[part], y[part]))
    return fit_many(model, seeded, X, y, **options), alone


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "candidates"),
    [
        ({}, CASES),
        ({"epsilon": math.inf, "noise_multiplier": None}, CASES),
        ({"module": MLP(hidden_units=(5, 4))}, CASES),
        ({"module": None}, CASES),
        ({"clipping": "automatic"}, CASES),
        ({"clipping": "per-layer", "module": MLP(hidden_units=(5,))}, CASES),
        ({"clipping": "global"}, CASES),
        ({"classes": [0, 1, 2]}, CASES),
        ({"max_physical_batch_size": 7, "lr_schedule": "cosine", "average": 0.5}, CASES),
        ({"mechanism": DPSGD(switch_at=0.5, late_max_grad_norm=0.1)}, CASES),
        ({"feature_bounds": "private"}, [{"lr": 0.1}, {"lr": 0.2}]),
        ({"optimizer": SGD()}, [{"optimizer__momentum": 0.0}, {"optimizer__weight_decay": 0.1}, {"lr": 0.1}]),
        ({}, [{"noise_multiplier": 0.5}, {"noise_multiplier": 2.0}]),
    ],
)
def test_on_the_same_draws_fits_end_where_separate_ones_do(options, candidates, stacks):
    found, alone = both(classifier(**options), candidates)
    assert stacks == [len(candidates)]
    for one, two in zip(found, alone, strict=True):
        torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-5)
        assert one.privacy_.to_dict() == two.privacy_.to_dict()
        assert one.n_iter_ == two.n_iter_ and one.get_params().keys() == two.get_params().keys()


def test_regressions_and_folds_train_together(stacks):
    model = DPRegressor("linear", noise_multiplier=1.0, epsilon=None, feature_bounds=(-1, 1), y_bounds=(-2, 2),
                        batch_size=12, max_epochs=2)  # fmt: skip
    folds = [train for train, _ in KFold(2).split(X)]
    found, alone = both(model, [{"lr": 0.1}, {"lr": 0.2}] * 2, X[:, 0] - X[:, 2], rows=folds * 2)
    assert stacks == [4]
    for one, two in zip(found, alone, strict=True):
        torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"mechanism": "dp-ftrl"},
        {"clipping": "adaptive"},
        {"batch_size": N},
        {"optimizer": "adam"},
        {"module": MLP(hidden_units=(4,), dropout=0.5)},
        {"adjacency": "add-remove", "n_public": N},
        {"optimizer": SGD(nesterov=True)},
    ],
)
def test_what_cannot_be_stacked_is_fitted_by_itself(options, stacks):
    found, alone = both(classifier(**options), [{"lr": 0.1}, {"lr": 0.2}])
    assert stacks == []
    for one, two in zip(found, alone, strict=True):
        assert torch.equal(weights(one), weights(two))
        assert one.privacy_.to_dict() == two.privacy_.to_dict()


def test_candidates_are_grouped_by_what_has_to_be_equal(stacks):
    fitted = fit_many(
        classifier(), ParameterGrid({"batch_size": [8, 12], "lr": [0.1, 0.2], "max_epochs": [1, 2]}), X, Y
    )
    assert sorted(stacks) == [2, 2, 2, 2] and len(fitted) == 8
    other = fit_many(DummyClassifier(), [{}, {"strategy": "prior"}], X, Y)
    assert [model.score(X, Y) > 0 for model in other] == [True, True]


# ---------------------------------------------------------------------- rows
@pytest.mark.filterwarnings("ignore")
def test_bad_rows_are_null_rows_and_reach_no_other_fit(stacks):
    spoilt, labels = X.copy(), Y.astype(object)
    spoilt[:3] = [[np.nan] * 3, [np.inf, 0, 0], [1e300] * 3]
    labels[5] = "what"
    model = classifier(on_invalid="null", batch_size=60)
    seeded = [{**params, "insecure_noise_seed": i} for i, params in enumerate(CASES)]
    found = fit_many(model, seeded, spoilt, labels)
    alone = [clone(model).set_params(**params).fit(spoilt, labels) for params in seeded]
    assert stacks == [3]
    for one, two in zip(found, alone, strict=True):
        assert torch.isfinite(weights(one)).all()
        torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_rows_with_gradients_that_are_not_finite_count_for_nothing(stacks):
    huge = X.copy()
    huge[:4] = 3e38
    found, alone = [], []
    for data, models in ((huge, found), (np.where(huge > 2, 0, huge), alone)):
        weight = np.where(huge[:, 0] > 2, 0.0, 1.0) if models is alone else np.ones(N)
        seeded = [{"insecure_noise_seed": i} for i in range(2)]
        models += fit_many(classifier(feature_bounds=None, batch_size=60), seeded, data, Y, sample_weight=weight)
    for one, two in zip(found, alone, strict=True):
        torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-5)


def executors(count, noise=1.0, rows=X, batch=12, **options):
    """Executors of fits that are ready to train, with what they were charged, and their queries."""
    fits = []
    for _ in range(count):
        model = classifier(noise_multiplier=noise, batch_size=batch, max_epochs=1000, **options)
        fits.append(model._fitting(rows, Y[: len(rows)], None))
    return [fit.__enter__() for fit in fits], fits


def first_queries(ready):
    return [next(fit.run.programme.plan.step(fit.executor.model, {"step": 0})) for fit in ready]


def noise_ratio(steps, factor):
    """Standard deviation of the noise in stacked answers over what is charged, if it was scaled by a factor."""
    ready, keep = executors(3, noise=50.0)
    stack = StackedExecutor([fit.executor for fit in ready])
    queries = first_queries(ready)
    found = []
    for _ in range(steps):
        for (total,), query in zip(stack.answer(queries), queries, strict=True):
            found.append(torch.cat([part.ravel() for part in total]) / (50.0 * query.values[0].sensitivity))
    assert len(keep) == 3
    return torch.stack(found).double() * factor


def noise_is_as_charged(values):
    """Chi-squared test of the variance, false alarm 1e-6; the rows' own part is far below the noise."""
    size = values.numel()
    low, high = (stats.chi2.ppf(p, size) / size for p in (5e-7, 1 - 5e-7))
    return low * 0.98 < float(values.square().mean()) < high * 1.02


def test_noise_is_as_charged_and_a_third_less_is_noticed():
    values = noise_ratio(400, 1.0)
    assert noise_is_as_charged(values)
    assert not noise_is_as_charged(values * (2 / 3))


def test_noise_of_fits_is_independent():
    values = noise_ratio(400, 1.0).reshape(400, 3, -1)
    limit = stats.norm.isf(1e-6 / 6) / math.sqrt(values[:, 0].numel())
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((values[:, one] * values[:, two]).mean())) < limit + 0.005
    assert abs(float((values[:, 0] * values[:, 0]).mean())) > limit + 0.005  # shared noise would be noticed


def correlation(indices):
    """Z-score of the covariance of the inclusion of rows in samples of two fits: (steps, 2, N) of 0 and 1."""
    centred = indices - 12 / N
    products = (centred[:, 0] * centred[:, 1]).ravel()
    rate = 12 / N
    return products.sum() / (math.sqrt(len(products)) * rate * (1 - rate))


def test_samples_of_fits_are_independent_poisson_samples():
    ready, keep = executors(2)
    stack = StackedExecutor([fit.executor for fit in ready])
    queries, drawn = first_queries(ready), []
    honest = stack._padded

    def spy(chosen):
        drawn.append([np.bincount(rows, minlength=N) for rows in chosen])
        return honest(chosen)

    with mock.patch.object(stack, "_padded", spy):
        for _ in range(600):
            stack.answer(queries)
    drawn = np.array(drawn)
    assert drawn.max() == 1 and len(keep) == 2
    limit = stats.norm.isf(5e-7)
    assert abs(correlation(drawn)) < limit * 1.2  # products are skewed; 1.2 covers that
    assert correlation(np.stack([drawn[:, 0], drawn[:, 0]], 1)) > 50  # shared batches would be noticed
    sizes = drawn.sum(2)
    assert abs(sizes.mean() - 12) < limit * math.sqrt(12 * (1 - 12 / N) / sizes.size)


def test_empty_samples_are_ordinary_steps_and_large_ones_are_not_cut():
    ready, keep = executors(2, noise=1e-6, max_physical_batch_size=2)
    stack = StackedExecutor([fit.executor for fit in ready])
    queries = first_queries(ready)
    samples = iter([np.arange(0), np.arange(0), np.arange(0), np.arange(N)])
    with mock.patch("skdp.training.stacked.draw", lambda *arguments: next(samples)):
        empty = stack.answer(queries)
        mixed = stack.answer(queries)
    assert all(float(part.abs().max()) < 1e-4 for (total,) in [*empty, mixed[0]] for part in total)
    # At zero weights each gradient is (1/2 - y) (x, 1), clipped.
    rows = np.column_stack([X, np.ones(N)]) * (0.5 - Y)[:, None]
    bound = queries[1].values[0].bound
    rows *= np.minimum(1, bound / np.linalg.norm(rows, axis=1))[:, None]
    total = torch.cat([part.ravel() for part in mixed[1][0]])
    np.testing.assert_allclose(total, rows.sum(0), rtol=1e-4, atol=1e-3)
    assert [fit.run.book.executed(fit.run.book.reservation) for fit in ready] == [{"gradient": 2}] * 2
    assert len(keep) == 2


def test_one_row_moves_an_answer_by_its_sensitivity_at_most():
    for value in (1e30, -7.0, np.nan, 1e-310):
        answers = []
        for data in (X.copy(), X.copy()):
            if answers:
                data[0] = value
            ready, keep = executors(2, noise=1e-9, rows=data, feature_bounds=None, on_invalid="null", max_grad_norm=0.5)
            stack = StackedExecutor([fit.executor for fit in ready])
            with mock.patch("skdp.training.stacked.draw", lambda *arguments: np.arange(N)):
                answers.append(stack.answer(first_queries(ready)))
            assert len(keep) == 2
        for (one,), (two,) in zip(*answers, strict=True):
            moved = torch.cat([(a - b).ravel() for a, b in zip(one, two, strict=True)])
            assert float(moved.norm()) <= 2 * 0.5 * 1.01  # one row replaced: twice the zero-out sensitivity


# ---------------------------------------------------------------------- charges
def test_every_charge_is_reserved_before_any_step_and_in_order():
    order = []
    reserve, answer = FitBook.reserve, StackedExecutor.answer

    def reserving(book, charge, lease=None):
        order.append(charge.touches[0].count)
        return reserve(book, charge, lease)

    def answering(stack, queries):
        order.append("answer")
        return answer(stack, queries)

    with mock.patch.object(FitBook, "reserve", reserving), mock.patch.object(StackedExecutor, "answer", answering):
        fitted = fit_many(classifier(), CASES, X, Y)
    steps = fitted[0].privacy_.to_dict() and order[0]
    assert order == [steps] * 3 + ["answer"] * steps


def test_an_error_in_shared_steps_leaves_every_charge_that_was_spent():
    calls = []
    honest = StackedExecutor.answer

    def failing(stack, queries):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(stack, queries)

    models = [classifier(**params) for params in CASES]
    with mock.patch.object(StackedExecutor, "answer", failing), pytest.raises(KeyboardInterrupt):
        together.fit_together(models, [(X, Y, None)] * 3)
    assert all(0 < model.privacy_.epsilon < math.inf for model in models)
    calls.clear()
    with (
        mock.patch.object(StackedExecutor, "answer", failing),
        pytest.raises(KeyboardInterrupt) as caught,
    ):
        fit_many(classifier(), CASES, X, Y)
    assert "3 of 3 fits had spent" in caught.value.__notes__[0]


def test_bad_parameters_spend_nothing():
    with pytest.raises(ValueError, match="lr") as caught:
        fit_many(classifier(), [{"lr": 0.1}, {"lr": -1.0}], X, Y)
    assert not hasattr(caught.value, "__notes__")
    with pytest.raises(ValueError, match="rows holds 1"):
        fit_many(classifier(), CASES, X, Y, rows=[None])


def test_no_noise_warns_for_every_fit():
    with pytest.warns(NotPrivateWarning):
        fitted = fit_many(classifier(epsilon=math.inf, noise_multiplier=None), CASES, X, Y)
    assert all(math.isinf(model.privacy_.epsilon) for model in fitted)


# ---------------------------------------------------------------------- the search
def search(kind, **options):
    grid = {"lr": [0.01, 0.5], "max_grad_norm": [0.5, 1.0]}
    return kind(classifier(insecure_noise_seed=0), grid, cv=KFold(2), **options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]])
def test_a_sweep_gives_what_a_grid_search_gives(scoring, stacks):
    refit = True if scoring is None else "neg_log_loss"
    sweep, grid = (search(kind, scoring=scoring, refit=refit).fit(X, Y) for kind in (DPSweepCV, GridSearchCV))
    assert stacks == [8] and vars(sweep).keys() >= {name for name in vars(grid) if name.endswith("_")}
    assert sweep.cv_results_.keys() == grid.cv_results_.keys() and sweep.best_params_ == grid.best_params_
    for name in grid.cv_results_:
        if "test" in name:
            np.testing.assert_allclose(sweep.cv_results_[name], grid.cv_results_[name], atol=1e-4)
    np.testing.assert_array_equal(sweep.predict(X), grid.predict(X))
    assert clone(sweep).get_params().keys() == sweep.get_params().keys()


def test_a_sweep_states_all_of_its_fits():
    with pytest.warns(PrivacyLeakWarning, match="exact scores"):
        sweep = search(DPSweepCV).fit(X, Y)
    one = fit_many(classifier(), [{}], X, Y, rows=[np.arange(N // 2)])[0].privacy_
    refit = sweep.best_estimator_.privacy_
    assert sweep.privacy_.epsilon == pytest.approx(compose([one] * 8 + [refit]).epsilon, rel=1e-3)
    assert any("exact scores" in note for note in sweep.privacy_.warnings)


def failing_at(number):
    """Shared steps that stop at the answer of this number."""
    calls, honest = [], StackedExecutor.answer

    def answer(stack, queries):
        calls.append(1)
        if len(calls) == number:
            raise KeyboardInterrupt
        return honest(stack, queries)

    return mock.patch.object(StackedExecutor, "answer", answer)


def test_a_sweep_knows_what_it_had_spent_when_it_failed():
    sweep = search(DPSweepCV, refit=False)
    with pytest.raises(NotFittedError):
        sweep.privacy_  # noqa: B018
    with failing_at(3), pytest.raises(KeyboardInterrupt):
        sweep.fit(X, Y)
    failed = sweep.privacy_
    # All fits that were charged count as planned; those of a later group had not begun.
    one = fit_many(classifier(), [{}], X, Y, rows=[np.arange(N // 2)])[0].privacy_
    assert not hasattr(sweep, "cv_results_") and failed.status == "interrupted"
    assert failed.epsilon == pytest.approx(compose([one] * len(sweep._failed)).epsilon, rel=1e-3)
    assert 0 < len(sweep._failed) <= 8
    # A score that fails comes after all fits have spent, and what comes after it adds to both.
    sweep.set_params(scoring=lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sweep.fit(X, Y)
    assert sweep.privacy_.epsilon == pytest.approx(compose([failed, *[one] * 8]).epsilon, rel=1e-3)
    sweep.set_params(scoring=None).fit(X, Y)
    assert sweep.privacy_.epsilon == pytest.approx(compose([failed, *[one] * 16]).epsilon, rel=1e-3)


def test_an_error_in_one_process_lets_the_others_end_and_be_counted():
    sweep = DPSweepCV(classifier(), {"lr": [0.1, 0.2, -1.0]}, cv=KFold(2), n_jobs=2)
    with pytest.raises(ValueError, match="lr"):
        sweep.fit(X, Y)
    assert len(sweep._failed) >= 3  # the first process had nothing wrong in its three fits


def test_a_sweep_says_so_where_it_cannot_know_what_was_spent():
    sweep = search(DPSweepCV, refit=False)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    with mock.patch.object(sweeps, "Parallel", stopped), pytest.raises(KeyboardInterrupt):
        sweep.set_params(n_jobs=2).fit(X, Y)
    sweep.set_params(n_jobs=None).fit(X, Y)
    assert sweep.privacy_.warnings[0].startswith("NOT COMPLETE")


def test_folds_are_public_unless_asked_otherwise():
    from sklearn.model_selection import StratifiedKFold

    from skdp.model_selection import PublicKFold

    y = [0, 1] * 10
    assert repr(DPSweepCV(DPClassifier(), {}, cv=3)._splitter(y)) == repr(PublicKFold(3))
    assert DPSweepCV(DPClassifier(), {})._splitter(y).n_splits == 5
    with pytest.warns(PrivacyLeakWarning, match="bounds nothing per row"):
        assert isinstance(DPSweepCV(DPClassifier(), {}, cv=StratifiedKFold(2))._splitter(y), StratifiedKFold)
