"""What the processes of a group do in the tests: ``python scenarios.py NAMES FOLDER``, with torchrun's environment.

Every scenario gets the ranks and a folder that they share, and returns plain data or raises.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from sklearn.base import clone
from skorch.callbacks import Callback, LRScheduler

from skdp import DPClassifier, DPRegressor, PrivacyLedger
from skdp.callbacks import FitCheckpoint
from skdp.contract import (
    CarrierSum,
    ClippedSum,
    Gaussian,
    GramSum,
    NormBelow,
    NormSum,
    Poisson,
    Query,
    ThinnedSum,
    Touch,
)  # fmt: skip
from skdp.distributed import current, process_group
from skdp.exceptions import RankFailureError
from skdp.linear_model import DPLinearClassifier, DPLinearRegressor
from skdp.mechanisms import RGP
from skdp.preprocessing import DPMinMaxScaler
from skdp.releases import ArrayExecutor
from skdp.training import NetModel, PerExample, PrivateRows, SecretRandomness, TorchExecutor

CPU = torch.device("cpu")
CLIPPINGS = ("flat", "automatic", "global", "per-layer")


# ------------------------------------------------------------------ data and fits that the tests repeat in one process
def table(n=600):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n, 4))
    return X, (X[:, 0] + 0.3 * rng.standard_normal(n) > 0).astype(int)


def shard(ranks, *arrays):
    return [a[ranks.rank :: ranks.size] for a in arrays]


def plain(**options):
    """Full batches without noise: the same on any number of processes, to rounding."""
    given = {"epsilon": float("inf"), "classes": [0, 1], "feature_bounds": (-1, 1), "batch_size": 600, "max_epochs": 12}
    return DPClassifier(**{**given, "module": "mlp", "random_state": 0, **options})


def private(**options):
    given = {"epsilon": 2.0, "classes": [0, 1], "feature_bounds": (-1, 1), "batch_size": 100, "max_epochs": 4}
    return DPClassifier(**{**given, "module": "linear", "lr": 0.1, "random_state": 0, **options})


LINEAR = {
    "descent": DPLinearClassifier("gradient-descent", classes=[0, 1], max_iter=30),
    "balanced": DPLinearClassifier(loss="hinge", class_weight="balanced", classes=[0, 1], max_iter=30),
    "adassp": DPLinearRegressor("adassp", y_bounds=(0, 1)),
    "boosted": DPLinearRegressor("boosted-adassp", y_bounds=(0, 1)),
    "auto": DPLinearClassifier(classes=[0, 1], alpha=0.01, max_iter=60),
}
NOISY = ("descent", "balanced", "boosted")


def linear(kind, **options):
    """A linear model; without noise and with public bounds unless told otherwise."""
    return clone(LINEAR[kind]).set_params(**{"epsilon": float("inf"), "feature_bounds": (-1, 1), **options})


def line(model):
    return np.append(model.coef_.ravel(), model.intercept_)


def weights(model):
    return np.concatenate([part.ravel() for part in model._weights.values()])


def net():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2))


def rows(n=31):
    generator = torch.Generator().manual_seed(0)
    inputs, targets = torch.randn(n, 4, generator=generator) * 3, torch.randn(n, 2, generator=generator)
    weights = torch.ones(n)
    weights[2] = 0
    return inputs, targets, weights


def executor(inputs, targets, weights=None, module=None, seed=None, ranks=None):
    module = net() if module is None else module
    per_example = PerExample(module)
    loss = torch.nn.MSELoss(reduction="none")
    return TorchExecutor(
        NetModel(module, per_example.parameters, CPU, lambda out, y: loss(out, y).sum(1)),
        PrivateRows(inputs, targets, weights),
        forward=module,
        per_example=per_example,
        spend=lambda touch: 0,
        randomness=SecretRandomness(CPU, seed, rank=ranks and ranks.rank),
        piece=7,
        ranks=ranks,
    )


def exact_sums(made):
    """Every kind of sum without noise, as flat float64 arrays; the thinned one keeps all: its bound is tiny."""
    values = {clipping: ClippedSum(1.5, clipping) for clipping in CLIPPINGS}
    values |= {"below": NormBelow(3.0), "norms": NormSum(3.0), "thinned": ThinnedSum(1e-4)}
    values["carriers"] = CarrierSum(1.5, carriers={"0.weight": (torch.eye(5)[:, :1], torch.eye(4)[:1])})
    touch = Touch("sum", Poisson(1.0), None, 1)
    found = {}
    for name, value in values.items():
        (answer,) = made.answer(Query(touch, (value,)))
        parts = answer if isinstance(answer, list) else [answer]
        found[name] = np.concatenate([part.detach().double().numpy().ravel() for part in parts])
    return found


class At(Callback):
    """Do something at the end of a step."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_batch_end(self, net, training, **kwargs):
        if net.state_["step"] == self.step:
            self.act()


def run_out_of_memory():
    raise MemoryError("out of memory")


def raised(act):
    try:
        act()
    except BaseException as error:
        return type(error).__name__, str(error), error
    return None, "", None


# ------------------------------------------------------------------ quick scenarios
def sums(ranks, folder):
    """Rank 0 has three rows, the last the others, any between none."""
    own = slice(0, 3) if ranks.rank == 0 else slice(3, None) if ranks.rank == ranks.size - 1 else slice(0, 0)
    return exact_sums(executor(*[part[own] for part in rows()], ranks=ranks))


def noise_alone(ranks, folder):
    """No rows at all: what comes is noise."""
    module = torch.nn.Linear(200, 60)
    made = executor(torch.zeros(0, 200), torch.zeros(0, 60), module=module, ranks=ranks)
    touch = Touch("gradient", Poisson(0.5), Gaussian((2.0, 3.0, 3.0)), 1)
    total, below, norms = made.answer(Query(touch, (ClippedSum(1.5), NormBelow(1.0), NormSum(1.5))))
    scalars = []
    for _ in range(200):
        _, below, norms = made.answer(Query(touch, (ClippedSum(1.5), NormBelow(1.0), NormSum(1.5))))
        scalars.append((float(below), float(norms)))
    return torch.cat([part.ravel() for part in total]).numpy(), np.array(scalars), ranks.bytes_sent


def draws(ranks, folder):
    """Samples and noise of one insecure seed, which must not be the same on the ranks."""
    secret = SecretRandomness(CPU, 5, rank=ranks.rank)
    return secret.draw_rows(4000, 0.5), secret.draw_rows(4000, 0.05), secret.normal(500).numpy()


def full_batches(ranks, folder):
    X, y = shard(ranks, *table())
    model = plain().fit(X, y)
    return weights(model), model.n_iter_, model.privacy_.to_dict()


def weighted(ranks, folder):
    X, y = table()
    X, y, w = shard(ranks, X, y, np.linspace(0, 1, len(X)))
    return weights(plain().fit(X, y, sample_weight=w))


def estimates(ranks, folder):
    """Bounds and class counts, without noise, so that they are those of all rows."""
    X, y = shard(ranks, *table())
    model = plain(feature_bounds="private", class_weight="balanced", module="linear").fit(3 * X + 1, y)
    fit = DPRegressor(epsilon=float("inf"), random_state=0, batch_size=600, max_epochs=3, module="linear")
    fit.fit(X, 5 * X[:, 0] - 2)
    return model.feature_bounds_, weights(model), fit.y_bounds_, weights(fit)


def linear_sums(ranks, folder):
    """Fits without noise: of arrays, of sparse rows, of rows in a file, with weights, and of an empty shard."""
    X, y, w = shard(ranks, *table(), np.linspace(0, 1, 600))
    np.save(Path(folder) / f"X{ranks.rank}.npy", X)
    mapped = np.load(Path(folder) / f"X{ranks.rank}.npy", mmap_mode="r")
    own = slice(None) if ranks.rank == ranks.size - 1 else slice(0, 0)
    found = {kind: line(linear(kind, feature_bounds="private").fit(X, y)) for kind in LINEAR}
    found["sparse"] = line(linear("descent").fit(sparse.csr_array(X), y, sample_weight=w))
    found["mapped"] = line(linear("descent").fit(mapped, y, sample_weight=w))
    X, y = (part[own] for part in table())
    found["empty"] = line(linear("boosted").fit(X, y))
    found["empty and sparse"] = line(linear("descent").fit(sparse.csr_array(X), y))
    return found


def linear_noise(ranks, folder):
    """Private fits: the same everywhere; and answers about no rows at all, which are noise."""
    X, y = shard(ranks, *table())
    found, ledgered = {}, {}
    for kind in NOISY:
        options = {"epsilon": 2.0, "feature_bounds": "private"}
        with PrivacyLedger(path=Path(folder) / f"{kind}.jsonl", epsilon=5.0, delta=1e-4) as ledger:
            model = linear(kind, **options).fit(X, y)
            ranks.roll_call()
            ledgered[kind] = len(ledger.table())
        again = [line(linear(kind, insecure_noise_seed=5, **options).fit(X, y)) for _ in range(2)]
        found[kind] = line(model), model.privacy_.to_dict(), again
    made = ArrayExecutor(
        {"X": np.zeros((0, 60)), "y": np.zeros((0, 1))}, np.zeros(0, bool), spend=lambda touch: 0,
        normal=np.random.default_rng(ranks.rank).standard_normal, ranks=ranks,
    )  # fmt: skip
    touch = Touch("moments", Poisson(), Gaussian((2.0,)), 1)
    return found, ledgered, made.answer(Query(touch, (GramSum(1.5),)))[0]


def linear_refusals(ranks, folder):
    """What cannot be shared, what differs between the ranks, and an error on one of them in mid-fit."""
    X, y = shard(ranks, *table())
    bad = X.copy()
    bad[3, 1] = np.nan
    attempts = {
        "minimum": lambda: linear("descent", solver="objective-perturbation").fit(X, y),
        "alpha": lambda: linear("descent", alpha=0.1 + ranks.rank).fit(X, y),
        "columns": lambda: linear("descent").fit(X[:, ranks.rank :], y),
        "rows": lambda: linear("descent").fit(bad if ranks.rank else X, y),
        "sparse": lambda: linear("descent").fit(sparse.csr_array(X) if ranks.rank else X, y),
    }
    found = {}
    for name, act in attempts.items():
        found[name] = raised(act)[:2]
    model, honest = linear("descent", epsilon=2.0), ArrayExecutor.answer

    def answer(self, query):
        if ranks.rank == 1 and query.touch.name == "gradient":
            run_out_of_memory()
        return honest(self, query)

    with mock.patch.object(ArrayExecutor, "answer", answer):
        kind, message, _ = raised(lambda: model.fit(X, y))
    found["mid-fit"] = kind, message, model.privacy_.to_dict()
    return found


def empty_shard(ranks, folder):
    X, y = table()
    own = slice(0, 0) if ranks.rank == 0 else slice(None)
    model = plain().fit(X[own], y[own])
    noisy = private(mechanism="dpis").fit(X[own], y[own])
    return weights(model), noisy.privacy_.n, model.predict(X[:5]).tolist()


def statement(ranks, folder):
    """Of a private fit inside a ledger, which all ranks have open."""
    X, y = shard(ranks, *table())
    with PrivacyLedger(path=Path(folder) / "ledger.jsonl", epsilon=5.0, delta=1e-4) as ledger:
        model = private().fit(X, y)
        entries = len(ledger.table())
    return model.privacy_.to_dict(), weights(model), entries


def mechanisms(ranks, folder):
    X, y = shard(ranks, *table())
    fits = {
        "adaptive": private(clipping="adaptive", mechanism="dp-sgd"),
        "dpis": private(mechanism="dpis"),
        "rgp": private(mechanism=RGP(rank=1), module="mlp"),
        "scheduled": private(callbacks=[LRScheduler(policy="StepLR", step_size=1, gamma=0.5)], random_state=None),
    }
    return {name: weights(model.fit(X, y)) for name, model in fits.items()}


def declared(ranks, folder):
    """Under add-remove."""
    return private(adjacency="add-remove", n_public=580).fit(*shard(ranks, *table())).privacy_.n


def own_seed(ranks, folder):
    """One insecure seed, twice."""
    X, y = shard(ranks, *table())
    return [weights(private(insecure_noise_seed=3).fit(X, y)) for _ in range(2)]


def classes_of_all(ranks, folder):
    X, _ = table()
    y = np.where(X[:, 0] > 0, "b", np.where(ranks.rank == 0, "a", "c"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = private(classes=None).fit(*shard(ranks, X, y))
    return model.classes_.tolist()


def refusals(ranks, folder):
    X, y = shard(ranks, *table())
    first = ranks.rank == 0
    attempts = {
        "epsilon": lambda: private(epsilon=1.0 + ranks.rank).fit(X, y),
        "columns": lambda: private().fit(X[:, : 4 - ranks.rank], y),
        "names": lambda: private().fit(pd.DataFrame(X, columns=list("abcd" if first else "abdc")), y),
        "nameless": lambda: private().fit(pd.DataFrame(X, columns=list("abcd")) if first else X, y),
        "parameter": lambda: private(lr=0.1 if first else -1.0).fit(X, y),
        "rows": lambda: private().fit(X, y if first else y[:-1]),
        "dp-ftrl": lambda: private(mechanism="dp-ftrl").fit(X, y),
        "neuraldp": lambda: private(mechanism="neuraldp").fit(X, y),
        "spender": lambda: DPMinMaxScaler().fit(X),
        "nested": lambda: process_group().__enter__(),
        "places": lambda: ranks.sum(1.0) if first else ranks.gather(1),
        "budget": lambda: _over_budget(X, y, 0.5 if first else 5.0),
        "ledgers": lambda: private().fit(X, y) if first else _over_budget(X, y, 5.0),
    }
    found = {}
    for name, act in attempts.items():
        kind, message, error = raised(act)
        found[name] = kind, message, getattr(error, "spent", None)
    return found


def _over_budget(X, y, ceiling):
    with PrivacyLedger(epsilon=ceiling, delta=1e-4):
        return private().fit(X, y)


def error_in_mid_fit(ranks, folder):
    X, y = shard(ranks, *table())
    model = private(callbacks=[At(5, run_out_of_memory if ranks.rank == 1 else time.time)])
    kind, message, error = raised(lambda: model.fit(X, y))
    spent = getattr(error, "spent", None)
    again = private().fit(X, y)  # the group is as good as before
    return kind, message, model.privacy_.to_dict(), spent and spent.epsilon, weights(again)


def stopped(ranks, folder):
    """Ctrl-C on rank 1; and a callback of rank 0 alone that stops."""

    def ctrl_c():
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell runs in the background ignores it
        signal.raise_signal(signal.SIGINT)  # to this very thread: another may hear of it late

    def stop():
        raise KeyboardInterrupt

    found = []
    for rank, act in ((1, ctrl_c), (0, stop)):
        X, y = shard(ranks, *table())
        model = private(callbacks=[At(7, act if ranks.rank == rank else time.time)])
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            model.fit(X, y)
        executed = [line.executed for line in model.privacy_.queries]
        found.append((weights(model), executed, [type(w.message).__name__ for w in heard]))
    return found


def resumed(ranks, folder):
    """Ended after 15 steps, gone on with behind the 20 leased ones; rank 1 sees no file."""
    path = Path(folder) / "fit.ckpt"
    X, y = shard(ranks, *table())
    callbacks = [FitCheckpoint(path if ranks.rank == 0 else "not/there", every=10), At(15, run_out_of_memory)]
    kind, _, _ = raised(lambda: private(callbacks=callbacks).fit(X, y))
    with mock.patch.object(At, "on_batch_end", lambda self, net, training, **kwargs: None):  # the file holds it
        model = DPClassifier.resume(path if ranks.rank == 0 else "not/there", X, y)
    return kind, weights(model), model.privacy_.to_dict(), sorted(p.name for p in Path(folder).glob("fit.ckpt*"))


def other_thread(ranks, folder):
    said = []
    thread = threading.Thread(target=lambda: said.append(raised(current)[:2]))
    thread.start()
    thread.join()
    return said[0]


def replayed(ranks, folder):
    """Record the releases with a null row on rank 1; feed them to a fit where that row is huge and mislabelled."""
    X, y = table()
    X[9], y[9] = 1e6 * np.sign(X[9]), 1 - y[9]
    counts = np.ones(len(X))
    null = counts.copy()
    null[9] = 0  # row 4 of rank 1
    found = {}
    for name, options in {
        "adaptive": {"clipping": "adaptive", "mechanism": "dp-sgd", "feature_bounds": None},
        "dpis": {"mechanism": "dpis"},
        "rgp": {"mechanism": RGP(rank=1), "module": "mlp"},
    }.items():
        record, moves = [], []
        for first, weight in ((True, null), (False, counts)):
            with _transcript(record, moves, first):
                rows, labels, weight = shard(ranks, X, y, weight)
                private(**options, insecure_noise_seed=1).fit(rows, labels, sample_weight=weight)
        found[name] = len(record), moves
    return found


def _transcript(record, moves, first):
    honest, answers = TorchExecutor.answer, iter(list(record))

    def answer(self, query):
        given = honest(self, query)
        mark = query.fingerprint(self.model.parameters)
        if first:
            record.append((mark, [[p.clone() for p in a] if isinstance(a, list) else a.clone() for a in given]))
            return given
        recorded_mark, recorded = next(answers)
        for value, one, other in zip(query.values, given, recorded, strict=True):
            pairs = zip(one, other, strict=True) if isinstance(one, list) else [(one, other)]
            moved = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs) ** 0.5
            moves.append((mark == recorded_mark, moved / float(value.sensitivity)))
        return tuple([p.clone() for p in a] if isinstance(a, list) else a for a in recorded)

    return mock.patch.object(TorchExecutor, "answer", answer)


# ------------------------------------------------------------------ the end of a group
def killed(ranks, folder):
    """Rank 1 dies in mid-fit."""
    return _gone(ranks, signal.SIGKILL)


QUICK = [sums, noise_alone, draws, full_batches, weighted, estimates, linear_sums, linear_noise, linear_refusals,
         empty_shard, statement, declared, mechanisms, own_seed, classes_of_all, refusals, error_in_mid_fit, stopped,
         other_thread, replayed, resumed, killed]  # fmt: skip


# ------------------------------------------------------------------ slow scenarios
def hanging(ranks, folder):
    """Rank 0, which holds the store, stops in mid-fit."""
    return _gone(ranks, signal.SIGSTOP, 0)


def _gone(ranks, how, rank=1):
    X, y = shard(ranks, *table())
    marks = []

    def act():
        marks.append(time.monotonic())
        if ranks.rank == rank:
            os.kill(os.getpid(), how)

    model = private(callbacks=[At(5, act)])
    kind, message, error = raised(lambda: model.fit(X, y))
    seconds = time.monotonic() - marks[0]
    later = raised(lambda: private().fit(X, y))[:2]
    return kind, message, error.rank, error.spent.epsilon, model.privacy_.to_dict(), seconds, later


def absent(ranks, folder):
    """Rank 1 fails before it comes to the fit."""
    if ranks.rank == 1:
        raise FileNotFoundError("rows of rank 1")
    return raised(lambda: private().fit(*shard(ranks, *table())))[:2]


def main(names, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    rank, found = int(os.environ["RANK"]), {}
    chosen = QUICK if names == "quick" else [globals()[name] for name in names.split(",")]
    try:
        if os.environ.get("FOREIGN"):
            torch.distributed.init_process_group("gloo")
        with process_group(timeout=float(os.environ.get("TIMEOUT", 60))) as ranks:
            for scenario in chosen:
                found[scenario.__name__] = scenario(ranks, folder)
                _write(folder, rank, found)  # the next may be its last
        found["left"] = torch.distributed.is_initialized(), current() is None
    except (FileNotFoundError, RankFailureError) as error:
        found.setdefault("error", repr(error))
    _write(folder, rank, found)


def _write(folder, rank, found):
    (Path(folder) / f"found{rank}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
