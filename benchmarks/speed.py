"""Time and memory of a private step over the plain torch step, ours and the peers', side by side in one run.

    python benchmarks/speed.py [--quick] [--device cpu]

Steps of all contestants alternate, so a machine whose speed drifts moves them together; quoted are the ratio of
medians and the ratio of minima over the plain step of the same net, batch and optimizer. Every contestant runs in a
process of its own for memory.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from nets_for_speed import CASES, Case
from record import write
from torch import nn

from skdp.accounting import FitBook
from skdp.contract import Public
from skdp.mechanisms import DPSGD, Mechanism, TrainingPlan
from skdp.neural_network.losses import ClassLoss
from skdp.training import (
    Engine,
    NetModel,
    PerExample,
    PrivateRows,
    SecretRandomness,
    TailAverage,
    TorchExecutor,
    rows_per_pass,
)

LR = 0.1
SLOW = ("cnn", "transformer")


def skdp_steps(case: Case, device: torch.device, mechanism: Mechanism = DPSGD()) -> Callable[[int], None]:  # noqa: B008
    """skdp's own loop with everything a fit does in a step: book, sampling, clipping, noise, callbacks."""
    net = case.net().to(device).train()
    inputs, targets = (t.to(device) for t in case.data())
    public = Public(case.rows, tuple(inputs.shape[1:]), 10, "multiclass")
    plan = mechanism.plan(public, TrainingPlan(case.batch / case.rows, 10**6, 1.0), 1.0)
    book = FitBook()
    reservation = book.reserve(plan.charge)
    per_example = PerExample(net)
    executor = TorchExecutor(
        NetModel(net, per_example.parameters, device, ClassLoss()),
        PrivateRows(inputs, targets),
        forward=net,
        per_example=per_example,
        spend=lambda touch: book.spend(reservation, touch),
        randomness=SecretRandomness(device),
        piece=rows_per_pass(net, inputs),
    )
    engine = Engine(
        net,
        build_optimizer=lambda parameters: torch.optim.SGD(parameters, lr=LR, momentum=0.9),
        public_length=case.rows,
        criterion=ClassLoss(),
        train_split=None,
        device=str(device),
    ).initialize()
    engine.notify("on_train_begin", X=None, y=None)
    engine.notify("on_epoch_begin", dataset_train=None, dataset_valid=None)
    state = {"step": 0, "rng": np.random.default_rng(0)}
    plan.begin(executor.model, state)
    average = TailAverage(0.0, 10**6)

    def run(steps: int) -> None:
        for _ in range(steps):
            engine._one_step(plan, executor, state, average, None)

    return run


def plain_steps(case: Case, device: torch.device) -> Callable[[int], None]:
    """An ordinary torch loop over shuffled slices."""
    net = case.net().to(device).train()
    inputs, targets = (t.to(device) for t in case.data())
    optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
    loss = nn.CrossEntropyLoss()

    def batches():
        while True:
            for rows in torch.randperm(case.rows, device=device).split(case.batch):
                if len(rows) == case.batch:
                    yield inputs[rows], targets[rows]

    return ordinary_loop(net, optimizer, loss, batches())


def ordinary_loop(net: nn.Module, optimizer: Any, loss: Any, stream: Iterator) -> Callable[[int], None]:
    """The loop that anyone writes: forward, backward, step."""

    def run(steps: int) -> None:
        for _ in range(steps):
            x, y = next(stream)
            optimizer.zero_grad()
            loss(net(x), y).backward()
            optimizer.step()

    return run


def opacus_steps(mode: str) -> Callable[[Case, torch.device], Callable[[int], None]]:
    """Opacus with its Poisson loader; "ghost" or "hooks"."""

    def build(case: Case, device: torch.device) -> Callable[[int], None]:
        from opacus import PrivacyEngine

        net = case.net().to(device).train()
        data = torch.utils.data.TensorDataset(*(t.to(device) for t in case.data()))
        loader = torch.utils.data.DataLoader(data, batch_size=case.batch)
        optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
        common = {"module": net, "optimizer": optimizer, "data_loader": loader, "noise_multiplier": 1.0}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            engine = PrivacyEngine()
            loss = nn.CrossEntropyLoss()
            if mode == "ghost":
                net, optimizer, loss, loader = engine.make_private(
                    **common, max_grad_norm=1.0, criterion=loss, grad_sample_mode="ghost"
                )
            else:
                net, optimizer, loader = engine.make_private(**common, max_grad_norm=1.0)

        def batches():
            while True:
                yield from loader

        return ordinary_loop(net, optimizer, loss, batches())

    return build


CONTESTANTS = {
    "plain": plain_steps,
    "skdp": skdp_steps,
    "opacus ghost": opacus_steps("ghost"),
    "opacus hooks": opacus_steps("hooks"),
}


def timed(run: Callable[[int], None], steps: int, device: torch.device) -> float:
    start = time.perf_counter()
    run(steps)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / steps


def compare(case: Case, device: torch.device, rounds: int) -> dict:
    """Median and least seconds a step of every contestant, in alternation."""
    warnings.simplefilter("ignore")
    runs = {name: build(case, device) for name, build in CONTESTANTS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        timed(run, 3, device)
    for _ in range(rounds):
        for name, run in runs.items():
            # A slow peer takes fewer steps a round; its share of rounds is the same.
            seconds[name].append(timed(run, 1 if "hooks" in name else 3, device))
    base = seconds["plain"]
    return {
        "batch": case.batch,
        "goal": case.goal,
        "contestants": {
            name: {
                "median_ms": round(statistics.median(values) * 1e3, 3),
                "least_ms": round(min(values) * 1e3, 3),
                "ratio_of_medians": round(statistics.median(values) / statistics.median(base), 3),
                "ratio_of_least": round(min(values) / min(base), 3),
                "median_of_paired_ratios": round(
                    statistics.median(a / b for a, b in zip(values, base, strict=True)), 3
                ),
            }
            for name, values in seconds.items()
        },
    }


def process_mb(entry: str) -> float:
    """Memory of this process, "VmHWM" at its peak and "VmRSS" now.

    Not getrusage: its maximum starts at the parent's.
    """
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return float(status[entry].split()[0]) / 1024


def peak_memory(case: Case, name: str) -> float:
    """MB at the peak of five steps in a fresh process."""
    command = [sys.executable, __file__, "--memory-of", case.name, "--contestant", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def whole_fits(rounds: int) -> dict:
    """Seconds of `DPClassifier.fit` and of scikit-learn's non-private MLPClassifier, same net, batch and epochs."""
    fits = {
        "256-256, batch 1024, 10 epochs": whole_fit((256, 256), 1024, rounds),
        "64, batch 256, 10 epochs": whole_fit((64,), 256, rounds),
    }
    return {"goal": 0.75, "fits": fits}


def whole_fit(hidden: tuple[int, ...], batch: int, rounds: int) -> dict:
    """The comparison for one net on Adult; the first private fit also finds and certifies its noise."""
    from sklearn.neural_network import MLPClassifier

    from skdp import DPClassifier
    from skdp.datasets import load_adult
    from skdp.nets import MLP
    from skdp.optimizers import Adam
    from skdp.preprocessing import SchemaEncoder

    adult = load_adult()
    X = SchemaEncoder(adult.schema).fit_transform(adult.X_train)
    y = adult.y_train
    classes = sorted(set(y))
    private = DPClassifier(
        MLP(hidden, activation="relu"), epsilon=1.0, batch_size=batch, max_epochs=10, optimizer=Adam(), lr=1e-3,
        average=0.0, classes=classes, feature_bounds=(-1, 1), device="cpu",
    )  # fmt: skip
    plain = MLPClassifier(hidden, batch_size=batch, max_iter=10, learning_rate_init=1e-3)
    seconds: dict[str, list[float]] = {"skdp": [], "MLPClassifier": []}
    for _ in range(rounds):
        for name, model in (("skdp", private), ("MLPClassifier", plain)):
            start = time.perf_counter()
            model.fit(X, y)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": round(medians["skdp"] / medians["MLPClassifier"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds, nothing is written")
    parser.add_argument("--rounds", type=int, default=40, help="alternations; slow nets take a quarter of them")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.memory_of:
        case = next(case for case in CASES if case.name == options.memory_of)
        CONTESTANTS[options.contestant](case, torch.device("cpu"))(5)
        print(process_mb("VmHWM"))
        return
    device = torch.device(options.device)
    rounds = 5 if options.quick else options.rounds
    figures: dict = {"threads": 1, "device": str(device), "steps": {}, "peak_memory_mb": {}}
    for case in CASES:
        figures["steps"][case.name] = compare(case, device, max(3, rounds // 4) if case.name in SLOW else rounds)
        print(case.name, figures["steps"][case.name], flush=True)
    if device.type == "cpu":
        for case in CASES:
            figures["peak_memory_mb"][case.name] = {n: round(peak_memory(case, n)) for n in CONTESTANTS}
            print(case.name, figures["peak_memory_mb"][case.name], flush=True)
        figures["whole_fit"] = whole_fits(2 if options.quick else 3)
        print(figures["whole_fit"])
    if not options.quick:
        print(write("speed" if device.type == "cpu" else "speed_gpu", figures))


if __name__ == "__main__":
    main()
