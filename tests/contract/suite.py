"""What every mechanism must pass: inherit `MechanismContract` and list `cases`."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone

from skdp import DPClassifier, DPRegressor
from skdp.accounting import epsilon as epsilon_of
from skdp.contract import ADJACENCIES, PerturbedMinimum, Public, Query, Response
from skdp.mechanisms import TrainingPlan, resolve_mechanism
from skdp.neural_network.fitting import FitRun
from skdp.releases import ArrayExecutor
from skdp.training import SecretRandomness, TorchExecutor

# Every statistical test below fails an honest implementation with this probability.
FALSE_ALARM = 1e-6
# Sums of a few hundred float32 gradients, beside the slack of 1e-5 that the executor's noise covers.
SLACK = 1e-5


@dataclass(frozen=True)
class Case:
    """One way to train: parameters of an estimator.

    Parameters
    ----------
    name : str
    params : dict
        Estimator parameters that select the mechanism.
    """

    name: str
    params: dict[str, Any] = field(default_factory=dict)

    def classifier(self, **params: Any) -> DPClassifier:
        """A small quick classifier."""
        fast = {"module": "mlp", "classes": [0, 1], "epsilon": 3.0, "batch_size": 40, "max_epochs": 1}
        return DPClassifier(**{**fast, "insecure_noise_seed": 3, "random_state": 0, **self.params, **params})

    def regressor(self, **params: Any) -> DPRegressor:
        """A small quick regressor."""
        fast = {"module": "mlp", "epsilon": 3.0, "batch_size": 40, "max_epochs": 1}
        return DPRegressor(**{**fast, "insecure_noise_seed": 3, "random_state": 0, **self.params, **params})

    def plan(self, scale: float | None = 1.5, **public: Any) -> Any:
        """The plan by itself."""
        facts = {"n": 200, "input_shape": (4,), "n_outputs": 1, "task": "binary", **public}
        training = TrainingPlan(0.1, 20, 1.0, self.params.get("clipping", "flat"))
        return resolve_mechanism(self.params.get("mechanism", "dp-sgd")).plan(Public(**facts), training, scale)


# ------------------------------------------------------------------ the transcript harness
@dataclass
class Entry:
    """One answered query: its public digest, the answer without noise, and the answer that was given."""

    fingerprint: str
    query: Query
    exact: tuple
    given: tuple


@contextmanager
def answers_through(wrapper: Any):
    """Send every answer of every executor through `wrapper(executor, query, honest)`."""
    with ExitStack() as stack:
        for kind in (TorchExecutor, ArrayExecutor):
            honest = kind.answer

            def answer(executor, query, honest=honest):
                return wrapper(executor, query, lambda: honest(executor, query))

            stack.enter_context(mock.patch.object(kind, "answer", answer))
        yield


@contextmanager
def no_noise():
    """Answers as they would be without noise; the rows drawn stay the same."""

    class Silent:
        def __init__(self, executor):
            self._device = executor.model.device
            self.array_uniform = executor.randomness.array_uniform

        def normal(self, size):
            return torch.zeros(size, device=self._device)

        def array_normal(self, shape):
            return np.zeros(shape)

    with (
        mock.patch.object(TorchExecutor, "_noise_of", lambda self, query, ordinal: Silent(self)),
        mock.patch.object(ArrayExecutor, "_noise", lambda self, value, multiplier, shape: 0.0),
    ):
        yield


def flat(answer: Any) -> np.ndarray:
    """One value's answer as a float64 vector, copied."""
    parts = answer if isinstance(answer, list) else [answer]
    arrays = [part.numpy() if isinstance(part, torch.Tensor) else np.asarray(part) for part in parts]
    return np.concatenate([array.astype(np.float64).ravel() for array in arrays])


def fingerprint(executor: Any, query: Query) -> str:
    """Digest of a query and of the public weights at which it is evaluated."""
    model = getattr(executor, "model", None)
    return query.fingerprint(model and model.parameters)


def adds_noise(query: Query) -> bool:
    """Whether answers are values plus noise; others have no exact answer that noise could be measured against."""
    within = any(isinstance(value, PerturbedMinimum) for value in query.values)
    return not within and not isinstance(query.touch.noise, Response)


def record(fit: Any, seed: int = 0) -> list[Entry]:
    """Run `fit`; noise comes from a generator of this harness, so that exact answers are known as well."""
    entries: list[Entry] = []
    noise = np.random.default_rng(seed)

    def wrapper(executor, query, honest):
        digest = fingerprint(executor, query)
        if not adds_noise(query):
            entries.append(Entry(digest, query, (), copy.deepcopy(given := honest())))
            return given
        with no_noise():
            exact = honest()
        exact_flat = tuple(flat(answer) for answer in exact)
        multipliers = query.touch.noise.multipliers if query.touch.noise else (0.0,) * len(exact)
        for answer, value, z in zip(exact, query.values, multipliers, strict=True):
            std = z * float(value.sensitivity)
            for part in answer if isinstance(answer, list) else [answer]:
                part += torch.as_tensor(noise.standard_normal(tuple(part.shape)) * std).to(part) if isinstance(
                    part, torch.Tensor) else noise.standard_normal(part.shape) * std  # fmt: skip
        entries.append(Entry(digest, query, exact_flat, copy.deepcopy(exact)))
        return exact

    with answers_through(wrapper):
        fit()
    return entries


def replay(fit: Any, script: list[Entry]) -> list[Entry]:
    """Run `fit` on a neighbour, but answer with what was recorded."""
    entries: list[Entry] = []

    def wrapper(executor, query, honest):
        assert len(entries) < len(script), "the neighbour asks more queries"
        digest = fingerprint(executor, query)
        with no_noise():
            exact = tuple(flat(answer) for answer in honest())
        exact = exact if adds_noise(query) else ()
        given = copy.deepcopy(script[len(entries)].given)
        entries.append(Entry(digest, query, exact, given))
        return copy.deepcopy(given)

    with answers_through(wrapper):
        fit()
    return entries


def largest_move(before: list[Entry], after: list[Entry]) -> float:
    """Largest L2 distance of an exact answer, in units of its declared sensitivity."""
    moves = [0.0]
    for one, two in zip(before, after, strict=True):
        for value, a, b in zip(one.query.values, one.exact, two.exact, strict=adds_noise(one.query)):
            assert np.isfinite(b).all(), "an answer is not finite"
            moves.append(float(np.linalg.norm(a - b)) / float(value.sensitivity))
    return max(moves)


def assert_same_transcript(before: list[Entry], after: list[Entry]) -> None:
    """All queries, weights and counts agree."""
    assert [e.fingerprint for e in before] == [e.fingerprint for e in after]


@contextmanager
def measured():
    """Collect ``(touch name, value number, added noise, declared standard deviation)`` of honest fits."""
    seen: list[tuple[str, int, np.ndarray, float]] = []

    def wrapper(executor, query, honest):
        if not adds_noise(query):
            return honest()
        draws = executor.randomness if isinstance(executor, TorchExecutor) else executor._normal.__self__
        rows = draws._rows
        before, ordinals, spend = rows.bit_generator.state, [], executor._spend
        with mock.patch.object(executor, "_spend", lambda touch: ordinals.append(spend(touch)) or ordinals[0]):
            noisy = honest()
        after, rows.bit_generator.state = rows.bit_generator.state, before
        with no_noise(), mock.patch.object(executor, "_spend", lambda touch: ordinals[0]):
            exact = tuple(flat(answer) for answer in honest())
        rows.bit_generator.state = after
        for k, (a, b, value) in enumerate(zip(exact, noisy, query.values, strict=True)):
            std = query.touch.noise.multipliers[k] * float(value.sensitivity)
            seen.append((query.touch.name, k, flat(b) - a, std))
        return noisy

    with answers_through(wrapper):
        yield seen


def check_noise(samples: np.ndarray, std: float, false_alarm: float = FALSE_ALARM) -> None:
    """Fail unless `samples` look like independent normals of this standard deviation.

    Two-sided chi-square test of the variance, and a test of the mean; each at half the false-alarm rate.
    """
    samples = np.asarray(samples).ravel() / std
    low, high = stats.chi2.interval(1 - false_alarm / 2, len(samples))
    total = float(np.square(samples).sum())
    assert low <= total <= high, f"noise is {np.sqrt(total / len(samples)):.3f} of what was declared"
    bound = stats.norm.isf(false_alarm / 4) / np.sqrt(len(samples))
    assert abs(samples.mean()) <= bound, f"noise has mean {samples.mean():.3f}"


# ------------------------------------------------------------------ private rows as an adversary writes them
def data(n: int = 120) -> tuple[np.ndarray, np.ndarray]:
    """Features in [-1, 1], the last in [-3, 3], and labels."""
    rng = np.random.default_rng(5)
    X = rng.uniform(-1, 1, size=(n, 4)) * [1, 1, 1, 3]
    return X, (X[:, 0] > 0).astype(int)


CHANGES = ["as it was", "huge", "float32 max", "NaN", "infinite", "denormal", "mislabelled", "unknown label"]


def neighbour(X: np.ndarray, y: np.ndarray, change: str, row: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The data with one row changed, and sample weights."""
    X, y, weights = X.copy(), y.copy(), np.ones(len(X))
    match change:
        case "as it was":
            pass
        case "huge":
            X[row] = 1e30
        case "float32 max":
            X[row] = np.finfo(np.float32).max
        case "NaN":
            X[row, 1] = np.nan
        case "infinite":
            X[row] = -np.inf
        case "denormal":
            X[row] = 1e-310
        case "mislabelled":
            y[row] = 1 - y[row]
        case "unknown label":
            y[row] = 9
    return X, y, weights


class Killed(Exception):
    """Stands for a crash."""


@pytest.mark.filterwarnings("ignore:.*noise hides the range")
class MechanismContract:
    """The tests; an inheriting class sets ``cases`` and overrides what its mechanism does otherwise.

    Attributes
    ----------
    cases : list of Case
    adjacencies : tuple of str
        What the mechanism can serve; the others have to be refused by name.
    touch : str
        Name of the touch whose queries train the net.
    """

    cases: list[Case] = []
    adjacencies: tuple[str, ...] = ADJACENCIES
    touch = "gradient"

    def independent(self, case: Case, noise: list[np.ndarray]) -> list[np.ndarray]:
        """The noise of the training queries of one fit over its declared deviation, as independent normal numbers."""
        return noise

    def samples(self, case: Case, draws: SecretRandomness, n: int, rate: float, steps: int) -> Iterator[np.ndarray]:
        """Rows of each step, drawn afresh from the generators of the fit."""
        for _ in range(steps):
            yield draws.draw_rows(n, rate)

    def neighbour(self, case: Case, X: np.ndarray, y: np.ndarray, change: str) -> tuple[np.ndarray, ...]:
        """The data with one row changed in what the guarantee covers, and sample weights."""
        return neighbour(X, y, change)

    def refuses(self, model: DPClassifier, X: np.ndarray, y: np.ndarray) -> bool:
        """Whether the adjacency is one that the mechanism cannot serve, and if so, that it says so before a charge."""
        if model.adjacency in self.adjacencies:
            return False
        with pytest.raises(ValueError, match=f"adjacency='{model.adjacency}'"):
            model.fit(X, y)
        assert not hasattr(model, "privacy_")
        return True

    # -------------------------------------------------------------- sensitivity and replay
    @pytest.mark.parametrize("change", CHANGES)
    def test_one_row_changes_no_query_and_no_answer_by_more_than_declared(self, case, change):
        """Promises 2 and 3, for a row and its null row, and so on for every adversarial row."""
        X, y = data()
        X2, y2, w2 = self.neighbour(case, X, y, change)
        # Bounds would let huge values through to the net as +-1, so half of the changes run without them; in the
        # other half everything takes part that touches rows before training.
        private = change in ("as it was", "huge", "NaN", "mislabelled")
        options = {
            "on_invalid": "null",
            "feature_bounds": "private" if private else None,
            "class_weight": "balanced" if private else None,
            "noise_multiplier": 0.1,  # so little that bounds and counts are found and used
            "epsilon": None,
        }
        one, two = case.classifier(**options), case.classifier(**options)
        null = np.ones(len(X))
        null[7] = 0
        script = record(lambda: one.fit(X, y, null))
        moved = replay(lambda: two.fit(X2, y2, w2), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 1 + SLACK
        assert public_state(one) == public_state(two)
        assert not private or (one.feature_bounds_ != [-1, 1]).any()
        if change in ("as it was", "mislabelled"):
            assert largest_move(script, moved) > 0, "the harness did not see the row"

    def test_row_by_row_replacement_moves_answers_by_at_most_twice_the_sensitivity(self, case):
        """Replace-one goes by way of the null row, which is why its accountant doubles the sensitivity."""
        X, y = data()
        X2, y2, _ = self.neighbour(case, X, y, "mislabelled")
        X2[7] = -X2[7] * 50
        options = {"feature_bounds": None, "adjacency": "replace-one", "noise_multiplier": 1.0, "epsilon": None}
        script = record(lambda: case.classifier(**options).fit(X, y))
        moved = replay(lambda: case.classifier(**options).fit(X2, y2), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 2 * (1 + SLACK)

    @pytest.mark.parametrize("y_bounds", [None, (-2.0, 2.0)])
    def test_replay_of_a_regression(self, case, y_bounds):
        """A regressor's bounds of X and y are released on the same terms."""
        X, _ = data()
        y = np.column_stack([X[:, 0], X[:, 1] - X[:, 2]])
        X2, y2, weights = X.copy(), y.copy(), np.ones(len(X))
        weights[3] = 0
        y2[3] = [1e12, -5]
        X2[3] = 1e6
        options = {"y_bounds": y_bounds, "noise_multiplier": 0.1, "epsilon": None}
        one, two = case.regressor(**options), case.regressor(**options)
        script = record(lambda: one.fit(X, y, weights))
        moved = replay(lambda: two.fit(X2, y2, np.ones(len(X2))), script)
        assert_same_transcript(script, moved)
        assert 0 < largest_move(script, moved) <= 1 + SLACK
        assert public_state(one) == public_state(two)

    @pytest.mark.parametrize("n", [2, 3])
    def test_replay_of_a_tiny_data_set(self, case, n):
        """No division by what was drawn, no shape that depends on it."""
        X, y = np.linspace(-1, 1, 4 * n).reshape(n, 4), np.arange(n) % 2
        options = {"delta": 1e-3, "batch_size": 1, "max_epochs": 4, "noise_multiplier": 0.8, "epsilon": None}
        weights = np.ones(n)
        weights[-1] = 0
        script = record(lambda: case.classifier(**options).fit(X, y))
        assert len(script) >= 4 * n
        moved = replay(lambda: case.classifier(**options).fit(X, y, weights), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 1 + SLACK

    def test_add_remove_neighbours_ask_the_same_queries(self, case):
        """The number of rows reaches nothing: not the rate, the divisor, the steps or the noise."""
        X, y = data()
        options = {
            "adjacency": "add-remove", "n_public": 100, "noise_multiplier": 1.0, "epsilon": None,
            "class_weight": "balanced",
        }  # fmt: skip
        one, two = case.classifier(**options), case.classifier(**options)
        if self.refuses(one, X, y):
            return
        script = record(lambda: one.fit(X, y))
        moved = replay(lambda: two.fit(X[1:], y[1:]), script)
        assert_same_transcript(script, moved)
        assert public_state(one) == public_state(two)

    # -------------------------------------------------------------- accounting
    @pytest.mark.parametrize("adjacency", ADJACENCIES)
    def test_executed_event_is_the_charge_and_within_the_target(self, case, adjacency):
        """Promise 1: the claim follows from what was executed, counted outside the book."""
        X, y = data()
        n_public = 110 if adjacency == "add-remove" else None
        model = case.classifier(adjacency=adjacency, n_public=n_public, class_weight="balanced", epsilon=2.0)
        if self.refuses(model, X, y):
            return
        queries: list[Query] = []
        with answers_through(lambda executor, query, honest: queries.append(query) or honest()):
            model.fit(X, y)
        statement = model.privacy_
        counts: dict[str, int] = {}
        for query in queries:
            counts[query.touch.name] = counts.get(query.touch.name, 0) + 1
        touches = {query.touch.name: query.touch for query in queries}
        assert counts == {name: touch.count for name, touch in touches.items()}
        recomputed = epsilon_of(statement.event, statement.delta, adjacency)
        assert recomputed <= 2.0 * (1 + 1e-3)  # the certificate comes from a finer grid
        assert recomputed == pytest.approx(statement.epsilon, rel=2e-2)
        assert statement.epsilon <= 2.0 and statement.planned_event is None
        assert statement.steps == counts[max(counts, key=counts.get)]
        assert statement.delta < 1 / (n_public or len(X))

    def by_value(self, case: Case, seen: list) -> dict[tuple[str, int], list[np.ndarray]]:
        """What `measured` saw of one fit, by touch and value, over its declared deviation."""
        groups: dict[tuple[str, int], list[np.ndarray]] = {}
        for name, k, noise, std in seen:
            groups.setdefault((name, k), []).append(noise / std)
        return {
            (name, k): self.independent(case, parts) if name == self.touch else parts
            for (name, k), parts in groups.items()
        }

    def test_charge_falls_with_scale(self, case):
        """Calibration searches along the scale, so cost must be monotone in it."""
        costs = [epsilon_of(case.plan(scale).charge.event(), 1e-5) for scale in (0.7, 1.0, 2.0, 5.0)]
        assert costs == sorted(costs, reverse=True) and costs[0] > 2 * costs[-1]

    def test_noise_is_what_the_event_says(self, case):
        """Measured on complete honest fits; false alarm 1e-6 per test, certain to see noise scaled by 2/3."""
        X, y = data()
        model = case.classifier(insecure_noise_seed=None, class_weight="balanced", epsilon=2.0, max_epochs=3)
        groups: dict[tuple[str, int], list[np.ndarray]] = {}
        for _ in range(2):
            with measured() as seen:
                model.fit(X, y)
            for key, parts in self.by_value(case, seen).items():
                groups.setdefault(key, []).extend(parts)
        assert (self.touch, 0) in groups and ("class counts", 0) in groups and len(groups) >= 4
        for parts in groups.values():
            samples = np.concatenate(parts)
            check_noise(samples, 1.0)
            if len(samples) > 500:  # the few counts are measured with power where the executors are tested
                with pytest.raises(AssertionError, match=r"noise is 0\.[67]"):
                    check_noise(samples * 2 / 3, 1.0)
        assert max(len(np.concatenate(parts)) for parts in groups.values()) > 5000

    def test_noise_is_never_used_twice(self, case):
        """Not over steps, parameters, or fits; a float32 normal repeats by chance only."""
        X, y = data()
        parts: list[np.ndarray] = []
        for _ in range(2):
            with measured() as seen:
                case.classifier(insecure_noise_seed=None, module="linear", epsilon=2.0).fit(X, y)
            parts += self.by_value(case, seen)[self.touch, 0]
        values = np.concatenate(parts)
        repeats = len(values) - len(np.unique(np.round(values, 4)))
        wide = np.abs(np.corrcoef(values[:-1], values[1:])[0, 1])
        assert repeats < 0.05 * len(values)
        assert wide < stats.norm.isf(FALSE_ALARM / 2) / np.sqrt(len(values) - 1)

    def test_empty_samples_are_noisy_and_counted(self, case):
        """Promise 4: with an expected batch of 1 row, a third of all steps draws none."""
        X, y = data(50)
        sizes: list[int] = []
        sample = TorchExecutor._sample

        def spy(self, touch, ordinal, name=self.touch):
            pieces = list(sample(self, touch, ordinal))
            if touch.name == name:
                sizes.append(sum(map(len, pieces)))
            return pieces

        model = case.classifier(batch_size=1, epsilon=8.0, feature_bounds=(-1, 1), module="linear")
        before = model.fit(X, y).module_[1].weight.detach().clone()
        with mock.patch.object(TorchExecutor, "_sample", spy), measured() as seen:
            model.fit(X, y)
        answers = [noise for name, k, noise, _ in seen if name == self.touch and k == 0]
        assert model.privacy_.steps == len(X) == len(answers)
        # measured() draws every sample twice.
        sizes = sizes[::2]
        assert min(sizes) == 0 and len(set(sizes)) > 2
        empty = [noise for noise, size in zip(answers, sizes, strict=True) if size == 0]
        assert empty and all((noise != 0).all() for noise in empty)
        assert torch.isfinite(before).all()

    # -------------------------------------------------------------- no noise, crash, persistence
    def test_infinite_epsilon_is_the_plain_loop(self, case):
        """Promise 7: the same draws, no clipping, no noise, and it says so."""
        X, y = data()
        model = case.classifier(epsilon=float("inf"), feature_bounds=None, lr=0.3, optimizer="sgd", average=0.0)
        initial: dict[str, torch.Tensor] = {}
        build = FitRun.build

        def spy(self, estimates):
            engine, executor, average = build(self, estimates)
            initial.update(copy.deepcopy(engine.module_.state_dict()), module=copy.deepcopy(engine.module_))
            return engine, executor, average

        with mock.patch.object(FitRun, "build", spy), pytest.warns(UserWarning, match="NOT PRIVATE"):
            model.fit(X, y)
        net, rate = initial["module"], 40 / len(X)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        draws = SecretRandomness(torch.device("cpu"), 3)
        inputs, targets = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
        for rows in self.samples(case, draws, len(X), rate, model.privacy_.steps):
            logits = net(inputs[rows]).ravel()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets[rows], reduction="sum")
            optimizer.zero_grad()
            (loss / (rate * len(X))).backward()
            optimizer.step()
            getattr(net, "post_step", int)()
        assert model.privacy_.steps == 3
        for name, weight in net.named_parameters():
            torch.testing.assert_close(model.module_.state_dict()[name], weight.detach(), rtol=1e-5, atol=1e-6)
            assert name.endswith("bias") or (weight != initial[name]).any()
        assert model.privacy_.epsilon == float("inf")
        assert "NOT PRIVATE" in model.privacy_.text

    def test_a_crash_between_charge_and_answer_counts(self, case):
        """The book ticks before a row is touched."""
        X, y = data()
        books = []
        sample = TorchExecutor._sample

        def crash(self, touch, ordinal, name=self.touch):
            if touch.name == name and ordinal == 2:
                raise Killed
            return sample(self, touch, ordinal)

        def train(self, *args, honest=FitRun.train, **kwargs):
            books.append(self.book)
            return honest(self, *args, **kwargs)

        model = case.classifier()
        with (
            mock.patch.object(TorchExecutor, "_sample", crash),
            mock.patch.object(FitRun, "train", train),
            pytest.raises(Killed),
        ):
            model.fit(X, y)
        (book,) = books
        assert book.executed(book.reservation)[self.touch] == 3
        assert not hasattr(model, "classes_")

    def test_pickle_clone_and_repr(self, case):
        """A fitted model travels without rows, seeds or generators; a clone has no fitted state."""
        X, y = data()
        model = case.classifier().fit(X, y)
        again = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        assert again.privacy_ == model.privacy_
        fresh = clone(model)
        assert not hasattr(fresh, "n_iter_") and repr(fresh) == repr(model)
        mechanism = resolve_mechanism(case.params.get("mechanism", "dp-sgd"))
        assert clone(mechanism).get_params() == mechanism.get_params()
        plan = case.plan()
        assert pickle.loads(pickle.dumps(plan)) == plan
        assert hash(plan.charge) == hash(case.plan().charge)


def public_state(model: Any) -> str:
    """All fitted attributes in comparable form; what a fit publishes."""
    parameters = model.get_params(deep=False)
    state = {k: v for k, v in model.__getstate__().items() if k not in parameters}
    return json.dumps(state, default=_plain, sort_keys=True)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tobytes().hex()]
    if hasattr(value, "get_params"):
        return repr(value)
    raise TypeError(f"{type(value).__name__} in fitted state")
