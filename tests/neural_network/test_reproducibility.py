"""Seeds: what they fix, what they never fix, and that no fitted model carries one."""

from __future__ import annotations

import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from linear_fits import weights
from skorch.callbacks import Callback
from walk import walk

from skdp import DPClassifier, DPRegressor
from skdp.exceptions import InsecureNoiseWarning

N = 389


def classifier(**options):
    given = {"module": "mlp", "classes": [0, 1], "epsilon": 3.0, "batch_size": 60, "max_epochs": 1}
    return DPClassifier(**{**given, "feature_bounds": (-1, 1), **options})


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(N, 4))
    return X, (X[:, 0] > 0).astype(int)


def test_one_random_state_gives_different_noise(rows):
    """Equal noise could be subtracted: two neighbouring fits would give the changed row away."""
    one, two = (classifier(random_state=0).fit(*rows) for _ in range(2))
    difference = (weights(one) - weights(two)).abs()
    assert (difference > 0).float().mean() > 0.9


def test_global_seeds_do_not_reach_the_noise(rows):
    fitted = []
    for _ in range(2):
        np.random.seed(0)
        torch.manual_seed(0)
        fitted.append(weights(classifier(random_state=0).fit(*rows)))
    assert not torch.equal(*fitted)


def test_fitting_leaves_global_generators_alone(rows):
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(2).tolist(), np.random.rand(2).tolist()
    torch.manual_seed(1)
    np.random.seed(1)
    classifier(random_state=0).fit(*rows)
    assert (torch.rand(2).tolist(), np.random.rand(2).tolist()) == expected


def test_random_state_fixes_the_initial_weights(rows):
    class Look(Callback):
        def on_train_begin(self, net, **kwargs):
            seen.append(net.module_[1].weight.detach().clone())

    seen = []
    for seed in (0, 0, 1, np.random.RandomState(0)):
        classifier(random_state=seed, callbacks=[Look()]).fit(*rows)
    assert torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[3])
    assert not torch.equal(seen[0], seen[2])


@pytest.mark.parametrize("kind", [DPClassifier, DPRegressor])
def test_an_insecure_seed_fixes_everything_and_says_so(rows, kind):
    def fit(seed):
        with pytest.warns(InsecureNoiseWarning, match="insecure_noise_seed is set"):
            options = {"insecure_noise_seed": seed, "random_state": 0, "epsilon": 8.0, "batch_size": 60}
            return kind("mlp", max_epochs=1, **options).fit(*rows)

    warnings.simplefilter("ignore")
    one, two, other = fit(0), fit(0), fit(1)
    assert torch.equal(weights(one), weights(two)) and not torch.equal(weights(one), weights(other))
    assert any("insecure_noise_seed" in line for line in one.privacy_.warnings)
    assert "insecure_noise_seed" in one.privacy_.text


def test_without_an_insecure_seed_the_statement_is_silent(rows):
    assert "insecure" not in classifier(random_state=0).fit(*rows).privacy_.text


@pytest.mark.filterwarnings("ignore:.*noise hides the range")
@pytest.mark.parametrize("options", [{}, {"feature_bounds": "private", "class_weight": "balanced"},
                                     {"clipping": "adaptive", "average": 0.5}])  # fmt: skip
def test_a_pickle_holds_no_row_loss_seed_generator_or_array_as_long_as_the_data(rows, options):
    model = classifier(random_state=0, **options).fit(*rows, sample_weight=np.linspace(0.5, 1, N))
    raw = pickle.dumps(model)
    for row in rows[0]:
        assert row.tobytes() not in raw and row.astype(np.float32).tobytes() not in raw
    for item in walk(pickle.loads(raw)):
        assert not isinstance(
            item, torch.Generator | np.random.Generator | np.random.RandomState | torch.optim.Optimizer
        )
        if isinstance(item, np.ndarray | torch.Tensor):
            assert N not in item.shape
        elif isinstance(item, list | tuple | dict | set | str | bytes):
            assert len(item) != N
        if isinstance(item, str):
            assert "loss" not in item.lower() or item.startswith("PrivacyStatement")
    assert not [name for name in vars(model) if "history" in name or "seed" in name and name != "insecure_noise_seed"]
    assert len(raw) < 40_000


def test_the_history_has_no_losses(rows):
    seen = []

    class Keep(Callback):
        def on_train_end(self, net, **kwargs):
            seen.extend(net.history)

    classifier(max_epochs=3, callbacks=[Keep()]).fit(*rows)
    assert len(seen) == 3
    for epoch in seen:
        assert set(epoch) == {"epoch", "batches", "train_batch_count"}
        assert all(not batch for batch in epoch["batches"])


def test_what_is_printed_holds_no_losses(rows, capsys):
    classifier(max_epochs=2, verbose=1).fit(*rows)
    printed = capsys.readouterr().out
    assert "epoch" in printed and "dur" in printed
    assert "loss" not in printed


@pytest.mark.parametrize("module", [None, "linear", "mlp", torch.nn.Sequential(torch.nn.Linear(4, 1))])
def test_pickle_and_joblib_keep_the_model(rows, tmp_path, module):
    model = classifier(module=module).fit(*rows)
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):
        np.testing.assert_array_equal(again.predict_proba(rows[0]), model.predict_proba(rows[0]))
        assert again.privacy_ == model.privacy_ and again.get_params().keys() == model.get_params().keys()
        np.testing.assert_array_equal(again.fit(*rows).classes_, [0, 1])


def test_unfitted_models_pickle_too():
    assert pickle.loads(pickle.dumps(DPRegressor(epsilon=2.0))).epsilon == 2.0


@pytest.mark.parametrize("module", [None, "mlp"])
def test_skops_keeps_the_model(rows, module):
    io = pytest.importorskip("skops.io")
    for model in (
        classifier(module=module).fit(*rows),
        DPRegressor(module, y_bounds=(0, 1), epsilon=3.0, feature_bounds=(-1, 1), max_epochs=1).fit(*rows),
    ):
        raw = io.dumps(model)
        trusted = io.get_untrusted_types(data=raw)
        assert all(name.startswith("skdp.") for name in trusted), trusted
        again = io.loads(raw, trusted=trusted)
        np.testing.assert_array_equal(again.predict(rows[0]), model.predict(rows[0]))
        assert again.privacy_ == model.privacy_
