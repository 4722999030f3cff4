"""DP-SGD that switches its clip norm late: when, to what, at which noise, and that it costs nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback
from suite import answers_through

from skdp import DPClassifier
from skdp.callbacks import FitCheckpoint
from skdp.contract import Public, drive
from skdp.mechanisms import DPSGD, TrainingPlan

PUBLIC = Public(n=1000, input_shape=(4,), n_outputs=1, task="binary")
TRAINING = TrainingPlan(sampling_rate=0.1, steps=50, max_grad_norm=0.5)
LATE = DPSGD(switch_at=0.8, late_max_grad_norm=2.0, late_clipping="global")


def classifier(mechanism=LATE, **options):
    fast = {"module": "linear", "classes": [0, 1], "feature_bounds": (-1, 1), "epsilon": 8.0, "lr": 0.3}
    return DPClassifier(mechanism=mechanism, **{**fast, "batch_size": 40, "max_epochs": 5, **options})


def bounds(fit):
    """Clip norms and clippings of all queries of a fit, in order."""
    seen = []

    def wrapper(executor, query, honest):
        seen.append((query.values[0].bound, query.values[0].clipping))
        return honest()

    with answers_through(wrapper):
        model = fit()
    return model, seen


def test_it_costs_what_plain_training_costs():
    assert LATE.plan(PUBLIC, TRAINING, 1.5).charge == DPSGD().plan(PUBLIC, TRAINING, 1.5).charge


def test_it_switches_when_it_says(blobs):
    model, seen = bounds(lambda: classifier(max_grad_norm=0.5).fit(*blobs))
    assert seen == [(0.5, "flat")] * 40 + [(2.0, "global")] * 10
    assert "after 80% of the steps global at clip norm 2" in model.privacy_.mechanism


@pytest.mark.parametrize(
    ("late", "bound", "clipping"),
    [({"late_max_grad_norm": 2.0}, 2.0, "automatic"), ({"late_clipping": "flat"}, 0.5, "flat")],
)
def test_what_is_not_named_stays(blobs, late, bound, clipping):
    fit = classifier(DPSGD(switch_at=0.5, **late), clipping="automatic", max_grad_norm=0.5)
    assert bounds(lambda: fit.fit(*blobs))[1][-1] == (bound, clipping)


def test_updates_are_scaled_so_that_the_noise_in_them_stays():
    """Four times the clip norm, four times the noise in the sum, a quarter of the sum in the update."""
    plan, model, updates = LATE.plan(PUBLIC, TRAINING, 1.5), None, {}
    for step in (39, 40):
        step_of = plan.step(model, {"step": step})
        updates[step] = drive(step_of, lambda query: ([torch.full((3,), float(query.values[0].sensitivity))],))
    assert updates[39].noise_std == pytest.approx(1.5 * 0.5 / 100) == updates[40].noise_std
    torch.testing.assert_close(updates[39].gradients, updates[40].gradients)


def test_a_switch_to_the_same_is_no_switch(blobs):
    same = DPSGD(switch_at=0.5, late_clipping="flat")
    fits = [classifier(m, insecure_noise_seed=3, random_state=0).fit(*blobs) for m in (same, DPSGD())]
    np.testing.assert_array_equal(fits[0].predict_proba(blobs[0]), fits[1].predict_proba(blobs[0]))


def test_without_noise_nothing_is_clipped_before_or_after(blobs):
    with pytest.warns(UserWarning, match="NOT PRIVATE"):
        _, seen = bounds(lambda: classifier(epsilon=math.inf).fit(*blobs))
    assert set(seen) == {(math.inf, "flat")}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"switch_at": v, "late_max_grad_norm": 1.0}, "switch_at=.*strictly between 0 and 1") for v in (0, 1, math.nan)]
    + [({"switch_at": 0.5, "late_max_grad_norm": v}, "late_max_grad_norm=") for v in (0, -1.0, math.inf, math.nan)]
    + [({"switch_at": 0.5, "late_clipping": v}, "late_clipping=.*'per-layer'") for v in ("adaptive", "none")]
    + [({"switch_at": 0.5}, "needs switch_at and at least one"), ({"late_clipping": "flat"}, "needs switch_at and")],
)  # fmt: skip
def test_nonsense_is_refused_before_anything_is_spent(blobs, wrong, words):
    for epsilon in (1.0, math.inf):
        model = classifier(DPSGD(**wrong), epsilon=epsilon)
        with pytest.raises(ValueError, match=words):
            model.fit(*blobs)
        assert not hasattr(model, "privacy_")


def test_adaptive_clipping_does_not_switch(blobs):
    with pytest.raises(ValueError, match="clipping='adaptive' moves .* use another clipping, or switch_at=None"):
        classifier(clipping="adaptive").fit(*blobs)


def test_its_parameters_are_nested_ones(blobs):
    model = classifier(DPSGD()).set_params(mechanism__switch_at=0.5, mechanism__late_max_grad_norm=3.0)
    assert bounds(lambda: model.fit(*blobs))[1][-1] == (3.0, "flat")


class Killed(Exception):
    """Stands for a crash."""


class At(Callback):
    step = 12

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            self.step = None
            raise Killed


def test_a_resumed_fit_switches_at_the_same_step(tmp_path, blobs):
    path = tmp_path / "fit.ckpt"
    with pytest.raises(Killed):
        classifier(max_grad_norm=0.5, callbacks=[FitCheckpoint(path, every=10), At()]).fit(*blobs)
    _, seen = bounds(lambda: DPClassifier.resume(path, *blobs))
    assert seen == [(0.5, "flat")] * 20 + [(2.0, "global")] * 10
