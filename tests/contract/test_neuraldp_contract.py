"""NeuralDP inherits the contract; what it asks once, or not about sums, is tested here in its own way."""

from __future__ import annotations

import copy
from unittest import mock

import numpy as np
import pytest
import torch
from suite import (  # fmt: skip
    SLACK,
    Case,
    Killed,
    MechanismContract,
    assert_same_transcript,
    data,
    largest_move,
    measured,
    neighbour,
    public_state,
    record,
    replay,
)
from torch import nn

from skdp.mechanisms import NeuralDP
from skdp.neural_network.fitting import FitRun
from skdp.training import TorchExecutor


def front_and_head() -> nn.Sequential:
    """A frozen front of 30 activations and a head that trains."""
    torch.manual_seed(0)
    front = nn.Sequential(nn.Linear(4, 30), nn.Tanh()).requires_grad_(False)
    return nn.Sequential(front, nn.Linear(30, 1))


@pytest.mark.filterwarnings("ignore::skdp.exceptions.PrivacyLeakWarning", "ignore:sample_weight")
class TestNeuralDP(MechanismContract):
    cases = [
        Case("once, labels too", {"mechanism": NeuralDP("0", label_epsilon=0.5), "module": front_and_head()}),
        Case("per pass", {"mechanism": NeuralDP("0", release="per-pass"), "module": front_and_head(), "max_epochs": 3}),
    ]
    adjacencies = ("zero-out", "replace-one")
    touch = "activations"

    def neighbour(self, case, X, y, change):
        """Neighbours agree in their labels where these are taken as public; the row differs by its features."""
        X2, y2, weights = neighbour(X, y, change)
        if case.params["mechanism"].labels_are_public and change in ("mislabelled", "unknown label"):
            X2, y2 = X2.copy(), y
            X2[7] = -X2[7]
        return X2, y2, weights

    def test_replay_of_a_regression(self, case):
        """Labels are public, so neighbours differ in X; protected labels need classes, and it says so."""
        X, _ = data()
        y = np.column_stack([X[:, 0], X[:, 1] - X[:, 2]])
        X2, weights = X.copy(), np.ones(len(X))
        weights[3] = 0
        X2[3] = 1e6
        options = {"y_bounds": (-2.0, 2.0), "noise_multiplier": 0.1, "epsilon": None, "module": "mlp"}
        options["mechanism"] = copy.copy(case.params["mechanism"]).set_params(layer=None)
        one, two = case.regressor(**options), case.regressor(**options)
        if not case.params["mechanism"].labels_are_public:
            with pytest.raises(ValueError, match="label_epsilon=0.5"):
                one.fit(X, y)
            return
        script = record(lambda: one.fit(X, y, weights))
        moved = replay(lambda: two.fit(X2, y, np.ones(len(X2))), script)
        assert_same_transcript(script, moved)
        assert 0 < largest_move(script, moved) <= 1 + SLACK
        assert public_state(one) == public_state(two)

    @pytest.mark.parametrize("n", [2, 3])
    def test_replay_of_a_tiny_data_set(self, case, n):
        """There are fewer queries than steps."""
        X, y = np.linspace(-1, 1, 4 * n).reshape(n, 4), np.arange(n) % 2
        options = {"delta": 1e-3, "batch_size": 1, "max_epochs": 4, "noise_multiplier": 0.8, "epsilon": None}
        weights = np.ones(n)
        weights[-1] = 0
        script = record(lambda: case.classifier(**options).fit(X, y))
        asked = [entry.query.touch.name for entry in script]
        assert asked.count("activations") == (4 if case.name == "per pass" else 1)
        moved = replay(lambda: case.classifier(**options).fit(X, y, weights), script)
        assert_same_transcript(script, moved)
        assert largest_move(script, moved) <= 1 + SLACK

    def test_empty_samples_are_noisy_and_counted(self, case):
        """There are none: every row is in every release, however small a minibatch of the training is."""
        X, y = data(50)
        with measured() as seen:
            model = case.classifier(batch_size=1, feature_bounds=(-1, 1), max_epochs=2).fit(X, y)
        answers = [noise for name, _, noise, _ in seen if name == self.touch]
        assert len(answers) == model.privacy_.steps == (2 if case.name == "per pass" else 1)
        assert all(len(noise) % len(X) == 0 and (noise != 0).all() for noise in answers)

    def test_infinite_epsilon_is_the_plain_loop(self, case):
        """The same minibatches, no clipping, no noise."""
        X, y = data()
        options = {"epsilon": float("inf"), "feature_bounds": None, "lr": 0.3, "optimizer": "sgd", "average": 0.0}
        model = case.classifier(**options)
        nets: list[nn.Module] = []
        build = FitRun.build

        def spy(self, estimates):
            engine, executor, average = build(self, estimates)
            nets.append(copy.deepcopy(engine.module_.net))
            return engine, executor, average

        with mock.patch.object(FitRun, "build", spy), pytest.warns(UserWarning, match="NOT PRIVATE"):
            model.fit(X, y)
        (net,) = nets
        optimizer = torch.optim.SGD(net.parameters(), lr=0.3, momentum=0.9)
        rng = np.random.default_rng(np.random.RandomState(0).randint(2**31 - 1))
        inputs, targets = torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
        for _ in range(3 * model.max_epochs):
            rows = rng.choice(len(X), 40, replace=False)
            rng.integers(2**63)
            loss = nn.functional.binary_cross_entropy_with_logits(net(inputs[rows]).ravel(), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        for name, weight in net.named_parameters():
            torch.testing.assert_close(model.module_.net.state_dict()[name], weight.detach(), rtol=1e-4, atol=1e-6)
        assert (model.module_.net[-1].weight != 0).any()
        assert model.privacy_.epsilon == float("inf") and "NOT PRIVATE" in model.privacy_.text

    def test_a_crash_between_charge_and_answer_counts(self, case):
        """The book ticks before a row is touched, also for the one release that there is."""
        X, y = data()
        books = []

        def crash(self, *query):
            raise Killed

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
        assert (
            sum(count for name, count in book.executed(book.reservation).items() if name in ("activations", "labels"))
            == 1
        )
        assert model.privacy_.epsilon <= 3.0 and not hasattr(model, "classes_")
