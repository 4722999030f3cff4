"""skorch's callbacks as they are: they see the net and public numbers, never a row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    LRScheduler,
    ParamMapper,
    PrintLog,
    ProgressBar,
)
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR

from skdp import DPClassifier, DPRegressor


def classifier(*callbacks, **options):
    given = {"module": "mlp", "classes": [0, 1], "epsilon": 20.0, "feature_bounds": (-1, 1), "max_epochs": 4}
    return DPClassifier(**{**given, "batch_size": 100, "lr": 0.4, "callbacks": list(callbacks), **options})


class Rates(Callback):
    """Remember the learning rate of every step."""

    def __init__(self):
        self.seen = []

    def on_grad_computed(self, net, named_parameters, training, **kwargs):
        self.seen.append(net.optimizer_.param_groups[0]["lr"])


class FirstWeights(Callback):
    """Remember the weights of the first layer after every epoch."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, net, **kwargs):
        self.seen.append(net.module_[1].weight.detach().clone())


class Everything(Callback):
    """Keep whatever skorch hands out."""

    def __init__(self):
        self.seen = []

    def _keep(self, net, **kwargs):
        self.net = net
        self.seen.append(kwargs)

    on_train_begin = on_train_end = on_epoch_begin = on_epoch_end = on_batch_begin = on_batch_end = _keep


def test_lr_scheduler_by_epoch(blobs):
    rates = Rates()
    classifier(LRScheduler(StepLR, step_size=2, gamma=0.5), rates).fit(*blobs)
    assert rates.seen == pytest.approx([0.4] * 8 + [0.2] * 8)


def test_lr_scheduler_by_batch(blobs):
    rates = Rates()
    classifier(LRScheduler(CosineAnnealingLR, T_max=16, step_every="batch"), rates).fit(*blobs)
    assert rates.seen == pytest.approx(0.2 * (1 + np.cos(np.pi * np.arange(16) / 16)))


def test_timer_log_and_progress(blobs, capsys):
    classifier(EpochTimer(), PrintLog(), ProgressBar(), verbose=1).fit(*blobs)
    printed = capsys.readouterr()
    assert "dur" in printed.out and "loss" not in printed.out
    assert "/4" in printed.err


def test_param_mapper_freezes_and_thaws(blobs):
    look = FirstWeights()
    freezer = ParamMapper("1.*", at=1, fn=lambda p: p.requires_grad_(False))
    thawer = ParamMapper("1.*", at=3, fn=lambda p: p.requires_grad_(True))
    model = classifier(freezer, thawer, look).fit(*blobs)
    assert torch.equal(look.seen[0], look.seen[1]) and not torch.equal(look.seen[1], look.seen[3])
    assert model.privacy_.steps == 16


def test_a_parameter_frozen_halfway_stays_where_it_was(blobs):
    look = FirstWeights()
    freezer = ParamMapper("1.*", at=3, fn=lambda p: p.requires_grad_(False))
    classifier(freezer, look).fit(*blobs)
    assert not torch.equal(look.seen[0], look.seen[1])
    assert torch.equal(look.seen[1], look.seen[2]) and torch.equal(look.seen[2], look.seen[3])


def test_the_engine_is_never_pickled_with_its_rows(tmp_path, blobs):
    X, y = blobs
    pickling = Checkpoint(monitor=None, f_params=None, f_optimizer=None, f_criterion=None, f_history=None,
                          f_pickle="net.pkl", dirname=str(tmp_path))  # fmt: skip
    with pytest.raises(TypeError, match="holds private rows"):
        classifier(pickling).fit(X, y)
    written = (tmp_path / "net.pkl").read_bytes() if (tmp_path / "net.pkl").exists() else b""
    assert not any(row.astype(np.float32).tobytes() in written for row in X)


def test_a_plateau_scheduler_needs_public_rows(blobs):
    scheduler = LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0, threshold=10.0, threshold_mode="abs")
    rates = Rates()
    classifier(scheduler, rates, validation_public=(blobs[0][:50], blobs[1][:50])).fit(*blobs)
    assert rates.seen[-1] < rates.seen[0]
    with pytest.raises(ValueError, match="needs a training loss, which is private"):
        classifier(LRScheduler("ReduceLROnPlateau")).fit(*blobs)


def test_checkpoint_without_monitor(tmp_path, blobs):
    callback = Checkpoint(monitor=None, f_params="params.pt", f_optimizer=None, f_criterion=None, f_history=None,
                          dirname=str(tmp_path))  # fmt: skip
    model = classifier(callback, average=0.0).fit(*blobs)
    saved = torch.load(tmp_path / "params.pt", weights_only=True)
    for name, weight in model.module_.state_dict().items():
        assert torch.equal(saved[name], weight)


def test_epoch_scoring_and_early_stopping_on_public_rows(blobs):
    X, y = blobs
    keep = Everything()
    public = X[:100], y[:100]
    model = classifier(
        EpochScoring("accuracy", lower_is_better=False, name="accuracy"),
        EpochScoring("roc_auc", lower_is_better=False, name="auc"),
        EarlyStopping(monitor="valid_loss", patience=1, threshold=10.0, threshold_mode="abs"),
        keep, validation_public=public, max_epochs=20,
    ).fit(X, y)  # fmt: skip
    assert model.n_iter_ == 2 and model.privacy_.status == "interrupted"
    assert model.privacy_.steps == 8 and model.privacy_.executed_epsilon < model.privacy_.epsilon
    history = keep.net.history
    assert all(0 < loss < 2 for loss in history[:, "valid_loss"])
    # Without averaging of iterates the last score is that of the model.
    outputs = torch.sigmoid(keep.net.module_(torch.tensor(public[0], dtype=torch.float32))).detach().numpy()
    assert history[-1, "accuracy"] == pytest.approx(((outputs.ravel() > 0.5) == public[1]).mean(), abs=0.02)
    assert history[-1, "auc"] == pytest.approx(roc_auc_score(public[1], outputs.ravel()), abs=1e-6)
    assert any("validation_public" in line for line in model.privacy_.assumptions)


def test_epoch_scoring_of_a_regressor_is_on_the_scale_of_y(slope):
    X, y = slope
    keep = Everything()
    y = y + 100
    model = DPRegressor(
        "linear", epsilon=50.0, feature_bounds=(-1, 1), y_bounds=(90, 110), max_epochs=30, batch_size=400, lr=0.5,
        average=0.0, validation_public=(X[:100], y[:100]),
        callbacks=[EpochScoring("neg_mean_absolute_error", lower_is_better=False, name="mae"), keep],
    ).fit(X, y)  # fmt: skip
    error = np.abs(model.predict(X[:100]) - y[:100]).mean()
    assert keep.net.history[-1, "mae"] == pytest.approx(-error, rel=1e-3)


@pytest.mark.parametrize("callback", [EarlyStopping(), EpochScoring("accuracy"), ("stop", EarlyStopping())])
def test_scoring_without_public_rows_is_refused(blobs, callback):
    with pytest.raises(ValueError, match="needs data to score; pass validation_public"):
        classifier(callback).fit(*blobs)


def test_unknown_labels_in_public_rows_are_named(blobs):
    X, y = blobs
    with pytest.raises(ValueError, match="validation_public: y holds labels that are not in classes"):
        classifier(EarlyStopping(), validation_public=(X[:5], [0, 1, 2, 0, 1])).fit(X, y)


def test_a_users_callback_sees_no_row(blobs):
    keep = Everything()
    X, y = blobs
    classifier(keep, max_epochs=2).fit(X, y)
    for kwargs in keep.seen:
        for name in ("X", "y", "batch", "dataset_valid"):
            assert kwargs.get(name) is None
    for value in vars(keep.net).values():
        if isinstance(value, np.ndarray | torch.Tensor):
            assert len(X) not in value.shape


def test_callbacks_do_not_change_the_result(blobs):
    seeded = {"insecure_noise_seed": 0, "random_state": 0}
    plain = classifier(**seeded).fit(*blobs)
    watched = classifier(EpochTimer(), Everything(), **seeded).fit(*blobs)
    np.testing.assert_array_equal(plain.predict_proba(blobs[0]), watched.predict_proba(blobs[0]))


def test_an_error_in_a_callback_leaves_the_estimator_as_it_was(blobs):
    class Broken(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise RuntimeError("broken callback")

    model = classifier().fit(*blobs)
    before = model.predict_proba(blobs[0])
    with pytest.raises(RuntimeError, match="broken callback"):
        model.set_params(callbacks=[Broken()]).fit(*blobs)
    np.testing.assert_array_equal(model.predict_proba(blobs[0]), before)
