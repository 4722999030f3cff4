"""NeuralDP: what is released, what it costs, what trains on it, and why a front that trains is refused."""

from __future__ import annotations

import copy
import math
import pickle
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from suite import answers_through
from torch import nn

from skdp import DPClassifier, DPRegressor
from skdp.accounting import PrivacyStatement, charge_from_dict, charge_to_dict, epsilon, noise_multiplier, verify
from skdp.callbacks import FitCheckpoint
from skdp.contract import Activations, Charge, Gaussian, Labels, Poisson, Public, Query, Response, Touch
from skdp.exceptions import (
    CalibrationError,
    PlanViolationError,
    PrivacyLeakWarning,
    UnsupportedModuleError,
    WeakSignalWarning,
)
from skdp.mechanisms import NeuralDP, TrainingPlan, resolve_mechanism
from skdp.nets import TextBag
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, SplitNet, TorchExecutor
from skdp.training.engine import Engine

FALSE_ALARM = 1e-6
pytestmark = pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivacyLeakWarning")


def front_and_head(width=8, outputs=1):
    torch.manual_seed(0)
    front = nn.Sequential(nn.Linear(4, width), nn.Tanh()).requires_grad_(False)
    return nn.Sequential(front, nn.Linear(width, outputs))


def classifier(mechanism="neuraldp", **params):
    given = {"classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": 3.0, "batch_size": 50, "max_epochs": 3}
    return DPClassifier(**{**given, "mechanism": mechanism, "random_state": 0, **params})


def plan(mechanism, scale=2.0, steps=40, **public):
    facts = {"n": 300, "input_shape": (4,), "n_outputs": 1, "task": "binary", **public}
    return mechanism.plan(Public(**facts), TrainingPlan(0.1, steps, 1.0), scale)


def executor(rows, classes=None, noise=None):
    """An executor of a split net, and a function that asks it."""
    split, cpu = SplitNet(nn.Sequential(nn.Identity(), nn.Linear(4, 1)), "0", (4,)), torch.device("cpu")
    per_example = PerExample(split)
    made = TorchExecutor(
        NetModel(split, per_example.parameters, cpu, None), rows, forward=split, per_example=per_example,
        spend=lambda touch: 0, randomness=SecretRandomness(cpu), piece=1000,
    )  # fmt: skip
    value = Activations(0.7) if classes is None else Labels(classes)
    return lambda: made.answer(Query(Touch("t", Poisson(), noise, 1), (value,)))[0]


def asked_by(fit):
    """What `fit` returns, and the queries that it asked."""
    asked = []
    with answers_through(lambda executor, query, honest: asked.append(query) or honest()):
        return fit(), asked


# ------------------------------------------------------------------ what is released
def test_activations_are_clipped_and_null_rows_are_zeros():
    x = torch.randn(60, 4) * 5
    x[3], x[4], x[5] = 1e30, float("nan"), 0.01
    weights = torch.ones(60)
    weights[6] = 0
    released = executor(PrivateRows(x, torch.zeros(60), weights))()
    assert released.shape == (60, 4) and released.norm(dim=1).max() <= 0.7 * (1 + 1e-6)
    assert (released[[4, 6]] == 0).all() and torch.equal(released[5], x[5])
    assert float(released[3].norm()) == pytest.approx(0.7)


def test_noise_is_the_multiplier_times_the_bound():
    """Two-sided chi-square at a false alarm of 1e-6, and certain to see noise scaled by 2/3."""
    ask = executor(PrivateRows(torch.zeros(4000, 4), torch.zeros(4000)), noise=Gaussian((3.0,)))
    noise, again = ask().double(), ask().double()
    low, high = stats.chi2.interval(1 - FALSE_ALARM, noise.numel())
    total = float((noise / (3.0 * 0.7)).square().sum())
    assert low <= total <= high and not low <= total * 4 / 9 <= high
    bound = stats.norm.isf(FALSE_ALARM / 2) / math.sqrt(noise.numel())
    assert abs(float((noise * again).mean()) / 4.41) < bound, "a second release has fresh noise"


@pytest.mark.parametrize(("odds", "classes"), [(1.0, 2), (0.3, 3), (3.0, 10)])
def test_randomised_response_has_the_stated_frequencies(odds, classes):
    """Chi-square at a false alarm of 1e-6; null rows answer uniformly; p scaled by 2/3 would be seen."""
    n, noise = 60_000, Response.at(odds, classes)
    weights = torch.ones(n)
    weights[n // 2 :] = 0
    labels = torch.ones(n, dtype=torch.int64)
    answers = executor(PrivateRows(torch.zeros(n, 4), labels, weights), classes, noise)().numpy()
    keep = math.exp(odds) / (math.exp(odds) + classes - 1)
    expected = np.full(classes, (1 - keep) / (classes - 1))
    expected[1] = keep
    assert keep == pytest.approx(1 - noise.noise_parameter * (1 - 1 / classes))
    counts = [np.bincount(part, minlength=classes) for part in (answers[: n // 2], answers[n // 2 :])]
    assert stats.chisquare(counts[0], expected * n / 2).pvalue > FALSE_ALARM
    assert stats.chisquare(counts[1]).pvalue > FALSE_ALARM
    less = 1 - 2 / 3 * noise.noise_parameter * (1 - 1 / classes)
    wrong = np.full(classes, (1 - less) / (classes - 1))
    wrong[1] = less
    assert stats.chisquare(counts[0], wrong * n / 2).pvalue < FALSE_ALARM


def test_a_sample_of_rows_is_refused():
    """The length of the answer would tell how many were drawn."""
    split = executor(PrivateRows(torch.zeros(50, 4), torch.zeros(50)))
    with pytest.raises(PlanViolationError, match="sampled"), mock.patch(
        "skdp.training.executor.TorchExecutor._sample", lambda self, *_: iter([self._rows.slice(0, 9)])
    ):  # fmt: skip
        split()


# ------------------------------------------------------------------ what it costs
def test_once_costs_the_same_for_any_number_of_epochs_and_per_pass_grows(blobs):
    once = [plan(NeuralDP(), steps=steps).charge for steps in (10, 1000)]
    assert once[0] == once[1]
    each = [plan(NeuralDP(release="per-pass"), steps=steps).charge for steps in (10, 11, 1000)]
    assert [charge.touches[0].count for charge in each] == [1, 2, 100]
    assert epsilon(each[2].event(), 1e-5) == pytest.approx(
        epsilon(Charge((Touch("one", Poisson(), Gaussian((0.2,)), 1),)).event(), 1e-5)
    )
    for release, times in (("once", 1), ("per-pass", 12)):
        model = classifier(NeuralDP(release=release), max_epochs=12).fit(*blobs)
        (query,) = model.privacy_.queries
        expected = noise_multiplier(3.0, model.privacy_.delta) * math.sqrt(times)
        assert query.noise_multiplier == pytest.approx(expected, rel=2e-3) and query.executed == times


def test_replace_one_needs_twice_the_noise(blobs):
    found = [
        classifier(adjacency=adjacency).fit(*blobs).privacy_.noise_multiplier
        for adjacency in ("zero-out", "replace-one")
    ]
    assert found[1] == pytest.approx(2 * found[0], rel=2e-3)


def test_features_and_labels_share_the_budget(blobs):
    model = classifier(NeuralDP(label_epsilon=1.0), adjacency="replace-one").fit(*blobs)
    statement = model.privacy_
    assert 2.9 < statement.epsilon <= 3.0 and verify(statement)
    features, labels = statement.queries
    alone = epsilon(Charge((Touch("a", Poisson(), Gaussian((features.noise_multiplier,)), 1),)).event(),
                    statement.delta, "replace-one")  # fmt: skip
    assert alone < 3.0 < alone + 1.0 + 0.2  # the sum of the epsilons is an upper bound
    assert labels.noise_multiplier is None and "2 classes, kept with probability 0.731" in labels.noise
    assert "randomised response of 2 classes" in statement.text and "no noise" not in statement.text
    assert not any("labels y" in fact for fact in statement.public)


def test_statement_and_charge_survive_json_and_verification(blobs, tmp_path):
    from skdp.cli import main

    model = classifier(NeuralDP("0", label_epsilon=0.5), module=front_and_head()).fit(*blobs)
    path = tmp_path / "statement.json"
    model.privacy_.save(path)
    again = PrivacyStatement.load(path)
    assert again == model.privacy_ and main(["verify", str(path)]) == 0
    charge = plan(NeuralDP(label_epsilon=0.5)).charge
    assert charge_from_dict(charge_to_dict(charge)) == charge
    plain = model.privacy_.to_dict()
    for line in plain["queries"]:
        if line["noise"]:
            line["noise"] = line["noise"].replace("2 classes", "9 classes")
    assert not verify(PrivacyStatement.from_dict(plain))
    assert "activations of '0' released once" in model.privacy_.mechanism


@pytest.mark.parametrize("adjacency", ["zero-out", "replace-one"])
def test_labels_that_cost_more_than_the_budget(blobs, adjacency):
    model = classifier(NeuralDP(label_epsilon=4.0), epsilon=1.0, adjacency=adjacency)
    with pytest.raises(CalibrationError, match="out of reach.*'labels'"):
        model.fit(*blobs)
    assert not hasattr(model, "privacy_")


def test_estimates_keep_their_small_share(blobs):
    """Bounds and class counts cost percents of the budget, however many steps the training has."""
    model = classifier(feature_bounds="private", class_weight="balanced", epsilon=8.0).fit(*blobs)
    precision = {line.name: line.executed * line.noise_multiplier**-2 for line in model.privacy_.queries}
    assert precision["activations"] > 0.9 * sum(precision.values())


# ------------------------------------------------------------------ what is public, and what is refused
def test_public_labels_are_said_before_anything_is_spent(blobs):
    model = classifier()
    with pytest.warns(PrivacyLeakWarning, match="the labels y: they were used exactly as they are"), mock.patch(
        "skdp.accounting.FitBook.reserve", side_effect=KeyError
    ), pytest.raises(KeyError):  # fmt: skip
        model.fit(*blobs)
    statement = classifier().fit(*blobs).privacy_
    assert any("anybody's label" in fact for fact in statement.public) and verify(statement)
    assert any("anybody's label" in line for line in statement.warnings)


def test_sample_weights_are_said_to_reach_nothing(blobs):
    X, y = blobs
    with pytest.warns(UserWarning, match="sample_weight: with mechanism=NeuralDP a weight of 0"):
        one = classifier(insecure_noise_seed=0).fit(X, y, np.full(len(X), 3.0))
    two = classifier(insecure_noise_seed=0).fit(X, y)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def test_the_label_of_a_null_row_is_not_changed(blobs):
    """Where labels are public, a label that is overwritten would show which row is null."""
    X, y = blobs
    weights = np.ones(len(X))
    weights[y == 1] = 0
    seen = []
    build = NetModel.__init__

    def spy(self, *args):
        build(self, *args)
        seen.append(self.targets)

    with mock.patch.object(NetModel, "__init__", spy):
        classifier().fit(X, y, weights)
        classifier(NeuralDP(label_epsilon=1.0)).fit(X, y)
    assert torch.equal(seen[0], torch.tensor(y)) and seen[1] is None


REFUSED = [
    (NeuralDP("nothing"), {}, "layer='nothing'.*'0'"),
    (NeuralDP(3), {}, "layer=3"),
    (NeuralDP(release="twice"), {}, "release='twice'"),
    (NeuralDP(label_epsilon=-1.0), {}, "label_epsilon=-1.0"),
    (NeuralDP(label_epsilon=float("nan")), {}, "label_epsilon=nan"),
    (NeuralDP(max_activation_norm=float("inf")), {}, "max_activation_norm=inf"),
    (NeuralDP(), {"clipping": "automatic"}, "clipping='automatic'.*max_activation_norm"),
    (NeuralDP(), {"adjacency": "add-remove", "n_public": 400}, "adjacency='add-remove'"),
]


@pytest.mark.parametrize(("mechanism", "options", "words"), REFUSED)
def test_refused_before_anything_is_spent(blobs, mechanism, options, words):
    model = classifier(mechanism, module=front_and_head(), **options)
    with pytest.raises(ValueError, match=words):
        model.fit(*blobs)
    assert not hasattr(model, "privacy_")


def test_regression_takes_labels_as_public(slope):
    with pytest.raises(ValueError, match="label_epsilon=1.0.*cut y into classes"):
        DPRegressor(mechanism=NeuralDP(label_epsilon=1.0), y_bounds=(-4, 4)).fit(*slope)
    X, y = np.tile(slope[0], (10, 1)), np.tile(slope[1], 10)
    model = DPRegressor(mechanism="neuraldp", epsilon=8.0, feature_bounds=(-1, 1), y_bounds=(-4, 4)).fit(X, y)
    assert model.score(X, y) > 0.8


def test_a_front_that_trains_is_refused(blobs):
    module = front_and_head().requires_grad_(True)
    model = classifier(NeuralDP("0"), module=module)
    with pytest.raises(UnsupportedModuleError, match="'0.0.weight'.*raw rows.*dp-sgd"):
        model.fit(*blobs)
    assert not hasattr(model, "privacy_")


def test_why_a_front_that_trains_is_refused():
    """One ordinary step on noisy activations, back through a front that trains: it tells for certain who was there.

    Noise at epsilon 1 allows a share of 0.731 right guesses about one row. The gradient of the front's weights is the
    row times whatever arrived: a column that only one row fills moves if and only if that row took part.
    """
    rng = np.random.default_rng(0)
    others = np.column_stack([rng.uniform(-1, 1, (20, 1)), np.zeros(20)])
    delta = 1e-5
    z, allowed = noise_multiplier(1.0, delta), (math.e + delta) / (1 + math.e)
    right, trials = 0, 200
    for trial in range(trials):
        takes_part = trial % 2 == 1
        x = torch.tensor(np.vstack([others, [0.5, 1.0] if takes_part else [0.0, 0.0]]), dtype=torch.float32)
        front, head = nn.Linear(2, 3, bias=False), nn.Linear(3, 1)
        a = front(x)
        a = a * (1.0 / a.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1.0)
        loss = nn.functional.softplus(head(a + z * torch.randn_like(a))).sum()  # the naive version
        (gradient,) = torch.autograd.grad(loss, front.weight)
        right += bool((gradient[:, 1] != 0).any()) == takes_part
    assert right == trials > 1.3 * allowed * trials


# ------------------------------------------------------------------ what trains on it
def test_training_is_ordinary_training_on_the_release(blobs):
    """Against a plain loop on the very numbers that were released."""
    X, y = blobs
    nets, answers = [], []
    run = Engine.run

    def spy(self, *args, **kwargs):
        nets.append(copy.deepcopy(self.module_))
        return run(self, *args, **kwargs)

    def keep(executor, query, honest):
        answers.append(copy.deepcopy(honest()))
        return answers[-1]

    model = classifier(
        NeuralDP("0", max_activation_norm=1.5), module=front_and_head(), lr=0.1, optimizer="sgd", average=0.0
    )
    with mock.patch.object(Engine, "run", spy), answers_through(keep):
        model.fit(X, y)
    ((released,),) = answers
    net = nets[0].net
    scale = max(1.0, model.privacy_.noise_multiplier * 1.5)
    rng = np.random.default_rng(np.random.RandomState(0).randint(2**31 - 1))
    optimizer = torch.optim.SGD(net[1].parameters(), lr=0.1, momentum=0.9)
    targets = torch.tensor(y, dtype=torch.float32)
    for _ in range(24):
        rows = rng.choice(400, 50, replace=False)
        rng.integers(2**63)
        loss = nn.functional.binary_cross_entropy_with_logits(net[1](released[rows] / scale).ravel(), targets[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(model.module_.net[1].weight, net[1].weight, rtol=1e-4, atol=1e-6)
    assert torch.equal(model.module_.net[0][0].weight, nets[0].net[0][0].weight), "the front stays as it was"


@pytest.mark.parametrize(("outputs", "n_outputs"), [(1, 1), (2, 1), (4, 4)])
def test_forward_corrected_loss_against_the_channel_matrix(outputs, n_outputs):
    """Cross-entropy of the channel's output, written with the whole matrix; its minimum is at the clean truth."""
    classes = max(2, n_outputs)
    made = plan(NeuralDP(label_epsilon=0.7), n_outputs=n_outputs, task="binary" if n_outputs == 1 else "multiclass")
    logits, targets = torch.randn(50, outputs), torch.randint(0, classes, (50,))
    model = mock.Mock(class_weights=None)
    p = made.charge.touches[1].noise.noise_parameter
    channel = (1 - p) * torch.eye(classes) + p / classes
    full = torch.cat([torch.zeros(50, 1), logits], 1) if outputs == 1 else logits
    expected = nn.functional.nll_loss((full.softmax(1) @ channel).log(), targets, reduction="none")
    torch.testing.assert_close(made._losses(model, logits, targets), expected)
    weights = torch.linspace(0.2, 1.0, classes)
    model.class_weights = weights
    unweighted = (full.softmax(1) / weights) / (full.softmax(1) / weights).sum(1, keepdim=True)
    expected = nn.functional.nll_loss((unweighted @ channel).log(), targets, reduction="none")
    torch.testing.assert_close(made._losses(model, logits, targets), expected)


def test_class_weights_reach_training(blobs):
    X, y = blobs
    for mechanism in (NeuralDP(), NeuralDP(label_epsilon=2.0)):
        even, tilted = (
            classifier(mechanism, class_weight=w, epsilon=20.0, insecure_noise_seed=0, max_epochs=10).fit(X, y)
            for w in (None, {0: 0.1, 1: 1.0})
        )
        assert tilted.predict(X).mean() > even.predict(X).mean() + 0.1


def test_prediction_is_deterministic_and_clips(blobs):
    X, y = blobs
    model = classifier(feature_bounds=None).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X))
    far = X / np.linalg.norm(X, axis=1, keepdims=True) * [[5.0]]
    np.testing.assert_allclose(model.predict_proba(far), model.predict_proba(far * 100), atol=1e-6)


def test_learns_what_it_can():
    """Few columns, many rows: well above the prior, also with protected labels and unequal classes."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(10_000, 4))
    y = (X[:, 0] + 0.5 * X[:, 1] > 0.5).astype(int)
    assert y.mean() < 0.26
    for mechanism in (NeuralDP(), NeuralDP(label_epsilon=1.5)):
        model = classifier(mechanism, batch_size="auto", max_epochs="auto", epsilon=4.0).fit(X, y)
        assert model.score(X, y) > 0.8
    assert classifier(module="mlp", batch_size=500, max_epochs=5, epsilon=4.0).fit(X, y).score(X, y) > 0.8


# ------------------------------------------------------------------ scikit-learn, checkpoints, interruption
def test_clone_pickle_and_search_over_an_instance(blobs):
    X, y = blobs
    model = classifier(NeuralDP("0"), module=front_and_head())
    grid = {"mechanism__max_activation_norm": [0.5, 2.0], "mechanism__label_epsilon": [1.0]}
    search = GridSearchCV(clone(model), grid, n_jobs=2, cv=2).fit(X, y)
    assert set(search.best_params_) == set(grid) and search.best_estimator_.privacy_.epsilon <= 3.0
    fitted = model.fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    sizes = [a.size for a in again._weights.values()]
    assert max(sizes) <= 8 * 8, "the release does not travel with the model"
    assert isinstance(resolve_mechanism("neuraldp"), NeuralDP)


def test_warm_start_composes_and_keeps_the_scale(blobs):
    model = classifier(warm_start=True).fit(*blobs)
    scale = float(model.module_.scale)
    model.set_params(epsilon=1.0).fit(*blobs)
    assert float(model.module_.scale) == scale > 1
    assert 3.0 < model.privacy_.epsilon < 4.0


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_private_fit_after_one_without_noise_clips_again(blobs):
    model = classifier(warm_start=True, epsilon=float("inf")).fit(*blobs)
    assert math.isinf(float(model.module_.bound))
    model.set_params(epsilon=1.0).fit(*blobs)
    assert float(model.module_.bound) == pytest.approx(math.sqrt(4 / 3))
    assert np.isfinite(model.predict_proba(blobs[0])).all()


class Stop(Callback):
    def __init__(self, step, error):
        self.step, self.error = step, error

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            raise self.error


def test_interruption_states_the_planned_epsilon(blobs):
    with pytest.warns(UserWarning, match="interrupted after 5 of 24"):
        model = classifier(callbacks=[Stop(5, KeyboardInterrupt)]).fit(*blobs)
    assert model.privacy_.epsilon <= 3.0 and model.predict(blobs[0]).shape == (400,)
    with pytest.warns(UserWarning, match="interrupted"):
        model = classifier(NeuralDP(release="per-pass"), callbacks=[Stop(5, KeyboardInterrupt)]).fit(*blobs)
    assert model.privacy_.status == "interrupted" and model.privacy_.executed_epsilon < model.privacy_.epsilon


@pytest.mark.parametrize("release", ["once", "per-pass"])
def test_resume_releases_nothing_twice(blobs, tmp_path, release):
    path = tmp_path / "fit.ckpt"
    callbacks = [FitCheckpoint(path, every=10), Stop(14, RuntimeError("killed"))]
    model = classifier(NeuralDP("0", release=release, label_epsilon=1.0), module=front_and_head(), callbacks=callbacks)
    with pytest.raises(RuntimeError, match="killed"):
        asked_by(lambda: model.fit(*blobs))
    # A crash does not happen twice.
    with mock.patch.object(Stop, "on_batch_end", lambda *args, **kwargs: None):
        resumed, asked = asked_by(lambda: DPClassifier.resume(path, *blobs))
    assert not asked, "all passes were leased, so none may be asked for again"
    statement = resumed.privacy_
    assert statement.status == "resumed" and statement.epsilon <= 3.0 and verify(statement)
    assert {line.name: line.executed for line in statement.queries}["labels"] == 1
    assert resumed.n_iter_ == 3 and resumed.predict(blobs[0]).shape == (400,)


def test_no_clipped_gradient_is_rehearsed(blobs):
    """How many threads are worthwhile is tried on a step of this training."""
    with mock.patch.object(TorchExecutor, "rehearse", side_effect=AssertionError), mock.patch(
        "torch.get_num_threads", return_value=2
    ):  # fmt: skip
        classifier().fit(*blobs)


# ------------------------------------------------------------------ what a review found
@pytest.mark.parametrize(("noise", "value"), [(Response(0.9, 2), Activations(1.0)), (Gaussian((2.0,)), Labels(2))])
def test_values_are_answered_by_the_noise_that_is_made_for_them(noise, value):
    """Otherwise a response's parameter would pass for a noise multiplier, at the price of a response."""
    split, cpu, spent = SplitNet(nn.Sequential(nn.Identity(), nn.Linear(4, 1)), "0", (4,)), torch.device("cpu"), []
    per_example = PerExample(split)
    rows = PrivateRows(torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64))
    made = TorchExecutor(
        NetModel(split, per_example.parameters, cpu, None), rows, forward=split, per_example=per_example,
        spend=spent.append, randomness=SecretRandomness(cpu), piece=10,
    )  # fmt: skip
    with pytest.raises(PlanViolationError, match="does not answer"):
        made.answer(Query(Touch("t", Poisson(), noise, 1), (value,)))
    assert not spent


def test_tokens_of_the_text_net():
    rng = np.random.default_rng(0)
    X, y = rng.integers(1, 50, size=(300, 6)), np.arange(300) % 2
    model = classifier(NeuralDP("features"), module=TextBag(50), feature_bounds=None).fit(X, y)
    assert model.predict(X).shape == (300,)


def test_public_labels_are_in_the_first_line_of_the_statement(blobs):
    open_, hidden = classifier().fit(*blobs).privacy_, classifier(NeuralDP(label_epsilon=1.0)).fit(*blobs).privacy_
    assert "per feature row, labels NOT protected" in open_.text.splitlines()[2]
    assert open_.unit == "feature row" and verify(open_).holds
    assert hidden.unit == "row" and "NOT protected" not in hidden.text


def test_more_inputs_than_noise_leaves_anything_of_are_warned_about():
    rng = np.random.default_rng(0)
    X, y = rng.uniform(-1, 1, size=(200, 100)), np.arange(200) % 2
    with pytest.warns(WeakSignalWarning, match="releases 100 numbers per row.*RandomProjection"):
        classifier(epsilon=1.0).fit(X, y)
