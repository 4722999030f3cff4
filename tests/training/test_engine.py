"""The loop: asks the plan, moves the weights, tells callbacks public things only."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.callbacks import BatchScoring, Callback, Checkpoint, EarlyStopping, EpochScoring, EpochTimer
from torch import nn

from skdp.callbacks import FitCheckpoint
from skdp.contract import Update, drive
from skdp.training import Engine, TailAverage, check_callbacks


@dataclass(frozen=True)
class Constant:
    """A plan that asks nothing: every gradient is all ones."""

    steps: int

    def step(self, model, state):
        return Update([torch.ones_like(p) for p in model.parameters.values()], noise_std=0.25)


class Answers:
    """An executor that is never asked."""

    def __init__(self, module):
        self.model = SimpleNamespace(module=module, parameters=dict(module.named_parameters()), device="cpu")
        self.refreshed = 0

    def follow_frozen_parameters(self):
        self.refreshed += 1

    def answer(self, query):
        return query


def run(
    steps=10,
    *,
    callbacks=(),
    average=0.0,
    lr_factor=None,
    start=0,
    optimizer=torch.optim.SGD,
    lease_and_save=None,
    **options,
):
    module = nn.Linear(2, 1)
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    engine = Engine(
        module,
        build_optimizer=lambda parameters: optimizer(parameters, lr=0.1),
        public_length=100,
        lr_factor=lr_factor,
        criterion=nn.MSELoss(),
        callbacks=list(callbacks),
        lr=0.1,
        max_epochs=3,
        train_split=None,
        verbose=0,
        validation=options.pop("validation", None),
        output_to_prediction=lambda outputs: outputs.numpy(),
    ).initialize()
    executor, state, mean = Answers(module), {"step": start}, TailAverage(average, steps)
    engine.lease_and_save = lease_and_save and (lambda *args, **options: lease_and_save(engine, *args, **options))
    complete = engine.run(Constant(steps), executor, state, mean, steps_per_epoch=4, **options)
    return SimpleNamespace(engine=engine, state=state, mean=mean, complete=complete, module=module, executor=executor)


def test_every_step_moves_the_weights_by_the_gradient():
    done = run(10)
    assert done.complete and done.state["step"] == 10
    torch.testing.assert_close(done.module.weight.detach(), torch.full((1, 2), -1.0))
    assert done.executor.refreshed == 3


def test_history_holds_public_numbers_only():
    done = run(10, callbacks=[EpochTimer()])
    assert [row["train_batch_count"] for row in done.engine.history] == [4, 4, 2]
    for row in done.engine.history:
        assert set(row) == {"batches", "epoch", "dur", "train_batch_count"}
        assert all(batch == {} for batch in row["batches"])


def test_tail_average_is_the_mean_of_the_last_iterates():
    done = run(10, average=0.5)
    # Iterates are -0.1 k for k = 1..10; the last five average to -0.8.
    torch.testing.assert_close(done.module.weight.detach(), torch.full((1, 2), -0.8))
    assert done.mean.count == 5
    none = run(10, average=0.0)
    torch.testing.assert_close(none.module.weight.detach(), torch.full((1, 2), -1.0))


def test_lr_factor_is_a_function_of_the_share_of_steps_done():
    seen = []
    done = run(10, lr_factor=lambda share: seen.append(share) or (1 - share))
    assert seen == pytest.approx(np.arange(10) / 10)
    torch.testing.assert_close(
        done.module.weight.detach(), torch.full((1, 2), -0.1 * sum(1 - k / 10 for k in range(10)))
    )


def test_optimizers_that_ask_for_it_learn_the_noise_level():
    class Wants(torch.optim.SGD):
        def __init__(self, parameters, lr):
            super().__init__(parameters, lr=lr)
            self.param_groups[0]["noise_std"] = None

    done = run(2, optimizer=Wants)
    assert done.engine.optimizer_.param_groups[0]["noise_std"] == 0.25


class Stop(Callback):
    def __init__(self, at):
        self.at = at

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.at:
            raise KeyboardInterrupt


@pytest.mark.parametrize("at", [1, 4, 7])
def test_ctrl_c_stops_between_steps(at):
    done = run(10, callbacks=[Stop(at)])
    assert not done.complete and done.state["step"] == at and done.engine.interrupted_
    torch.testing.assert_close(done.module.weight.detach(), torch.full((1, 2), -0.1 * at))


def test_ctrl_c_in_the_last_step_is_a_complete_fit():
    assert run(10, callbacks=[Stop(10)]).complete


def test_an_epoch_listener_can_stop():
    heard = []
    done = run(10, on_epoch=lambda epoch: heard.append(epoch) or epoch == 2)
    assert heard == [1, 2] and not done.complete and done.state["step"] == 8
    assert not done.engine.interrupted_
    assert run(10, on_epoch=lambda epoch: epoch == 3).complete


def test_a_run_goes_on_from_its_step():
    done = run(10, start=6)
    torch.testing.assert_close(done.module.weight.detach(), torch.full((1, 2), -0.4))
    assert run(10, start=10).complete


def test_no_gradient_outlives_its_step():
    assert all(p.grad is None for p in run(3).module.parameters())


def test_post_step_runs_after_every_step():
    calls = []
    run(10, post_step=lambda: calls.append(1))
    assert len(calls) == 10


class Spy(Callback):
    def __init__(self):
        self.seen = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seen.append((X, y))

    def on_batch_begin(self, net, batch=None, **kwargs):
        self.seen.append(batch)

    def on_batch_end(self, net, batch=None, **kwargs):
        self.seen.append(batch)
        assert kwargs == {"training": True, "y_pred": None}

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.seen.append(dataset_valid)
        assert len(dataset_train) == 100 and not hasattr(dataset_train, "X")


def test_callbacks_get_no_rows():
    spy = Spy()
    run(4, callbacks=[spy])
    assert spy.seen and all(item in (None, (None, None)) for item in spy.seen)


def test_validation_is_scored_on_public_rows():
    inputs, targets = torch.ones(3, 2), torch.zeros(3, 1)
    done = run(8, validation=(inputs, targets, targets.numpy()))
    # After 4 and 8 steps the output is 3 times -0.4 and -0.8.
    assert done.engine.history[:, "valid_loss"] == pytest.approx([1.44, 5.76], rel=1e-5)
    assert done.module.training


def test_drive_sends_answers_and_returns_the_value():
    def step():
        first = yield "a"
        second = yield "b"
        return first + second

    assert drive(step(), str.upper) == "AB"
    assert drive(3, None) == 3
    assert drive(None, None) is None


@pytest.mark.parametrize(
    ("callback", "message"),
    [
        (EarlyStopping(), "EarlyStopping needs data to score; pass validation_public"),
        (EpochScoring("accuracy"), "EpochScoring needs data to score; pass validation_public"),
        (BatchScoring("accuracy"), "BatchScoring would score private rows"),
        (Checkpoint(monitor="train_loss_best"), "needs a training loss, which is private"),
        ("print", "'print' is not a skorch callback"),
    ],
)
def test_callbacks_that_would_look_at_rows_are_refused(callback, message):
    with pytest.raises(ValueError, match=message):
        check_callbacks([callback], None)
    with pytest.raises(ValueError, match=message):
        check_callbacks([("named", callback)], None)


def test_callbacks_with_public_rows_are_welcome():
    check_callbacks([EarlyStopping(), EpochScoring("accuracy"), Checkpoint(monitor="valid_loss_best")], ([], []))
    check_callbacks([EpochTimer(), EpochTimer, ("timer", EpochTimer()), Checkpoint(monitor=None)], None)
    with pytest.raises(ValueError, match="would score private rows"):
        check_callbacks([EpochScoring("accuracy", on_train=True)], ([], []))


class Reach(Callback):
    """Looks for what holds rows among everything that a callback is given."""

    def __init__(self):
        self.kinds = set()

    def on_batch_end(self, net, **kwargs):
        self.kinds |= {type(value) for value in vars(net).values()}


def test_the_executor_is_no_attribute_of_the_engine():
    spy = Reach()
    done = run(2, callbacks=[spy])
    assert dict in spy.kinds and Answers not in spy.kinds
    assert not any(isinstance(value, Answers) for value in vars(done.engine).values())


class BestAgain(Callback):
    """Puts weights of its own into the module at the end, as Checkpoint(load_best=True) does."""

    def on_train_end(self, net, **kwargs):
        self.averaged = net.module_.weight.detach().clone()
        nn.init.constant_(net.module_.weight, 7.0)


def test_what_a_callback_restores_at_the_end_stands():
    best = BestAgain()
    done = run(10, average=0.5, callbacks=[best])
    torch.testing.assert_close(best.averaged, torch.full((1, 2), -0.8))
    assert (done.module.weight == 7).all()


def test_the_final_checkpoint_holds_the_last_iterate_and_is_written_once(tmp_path):
    saves = []

    def save(engine, callback, final=False):
        assert isinstance(callback, FitCheckpoint)
        saves.append((engine.state_["step"], final, engine.module_.weight.detach().clone()))

    done = run(10, average=0.5, callbacks=[FitCheckpoint(tmp_path / "fit", every=4)], lease_and_save=save)
    assert [saved[:2] for saved in saves] == [(0, False), (4, False), (8, False), (10, True)]
    torch.testing.assert_close(saves[-1][2], torch.full((1, 2), -1.0))
    torch.testing.assert_close(done.module.weight.detach(), torch.full((1, 2), -0.8))
