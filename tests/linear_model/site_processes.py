"""What processes do that are sites: ``python site_processes.py NAMES FOLDER``, with torchrun's environment.

Every scenario gets the ranks and a folder that they share, and returns plain data or raises.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import warnings
from pathlib import Path

import numpy as np

from skdp import PrivacyLedger
from skdp.distributed import process_group
from skdp.exceptions import RankFailureError
from skdp.linear_model import DPADMMClassifier, DPADMMRegressor
from skdp.linear_model.admm import site

ROUNDS = 40


def table(n=600):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(n, 3))
    return X, (X[:, 0] + 0.3 * rng.standard_normal(n) > 0).astype(int)


def own(ranks, *arrays):
    """Rows of this rank, as `n_agents` divides them."""
    index = np.array_split(np.arange(len(arrays[0])), ranks.size)[ranks.rank]
    return [array[index] for array in arrays]


def model(**changed):
    given = {
        "classes": [0, 1],
        "rounds": ROUNDS,
        "engine": "torch.distributed",
        "insecure_noise_seed": 7,
        "feature_bounds": (-1, 1),
    }
    return DPADMMClassifier(**given | changed)


def coefficients(fitted):
    return np.hstack([fitted.coef_, fitted.intercept_[:, None]])


def raised(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def silent(ranks, folder):
    return coefficients(model(epsilon=float("inf")).fit(*own(ranks, *table())))


def seeded(ranks, folder):
    fitted = model().fit(*own(ranks, *table()))
    return coefficients(fitted), fitted.privacy_.to_dict(), sorted(fitted.privacy_by_site_)


def secret(ranks, folder):
    """Coefficients with secret noise, many times: for their distribution."""
    return np.array([
        coefficients(model(insecure_noise_seed=None, rounds=5).fit(*own(ranks, *table()))) for _ in range(60)
    ])  # fmt: skip


def budgets(ranks, folder):
    epsilons = {"north": 0.5, "south": 2.0}
    fitted = model(epsilon=epsilons, site=("north", "south")[ranks.rank], max_sites_per_person=2)
    fitted.fit(*own(ranks, *table()))
    return {name: stated.epsilon for name, stated in fitted.privacy_by_site_.items()}, fitted.privacy_.to_dict()


def ledgers(ranks, folder):
    """Each site has a ledger of its own."""
    with PrivacyLedger(epsilon=3.0, delta=1e-4) as ledger:
        model().fit(*own(ranks, *table()))
    return len(ledger.table())


def crossing(ranks, folder):
    """Every array that is summed over the ranks."""
    seen, real = [], type(ranks).sum
    type(ranks).sum = lambda self, numbers: seen.append(np.shape(numbers)) or real(self, numbers)
    try:
        model().fit(*own(ranks, *table()))
    finally:
        type(ranks).sum = real
    return seen


def schemas(ranks, folder):
    """What sites may not differ in, each tried on one of two."""
    import pandas as pd

    X, y = own(ranks, *table())
    odd = ranks.rank == 1
    frame = pd.DataFrame(X, columns=["age", "height", "weight"])
    tries = {
        "names": lambda: model().fit(frame.rename(columns={"age": "years"}) if odd else frame, y),
        "number": lambda: model().fit(X[:, :2] if odd else X, y),
        "classes": lambda: model(classes=[0, 1, 2] if odd else [0, 1]).fit(X, y),
        "no classes": lambda: model(classes=None).fit(X, y),
        "clip": lambda: model(max_grad_norm=2.0 if odd else 1.0).fit(X, y),
        "kind": lambda: (
            DPADMMRegressor(engine="torch.distributed", feature_bounds=(-1, 1), y_bounds=(0, 1)) if odd else model()
        ).fit(X, y),
        "twice": lambda: model(site="north").fit(X, y),
        "groups": lambda: model().fit(X, y, groups=np.zeros(len(X))),
        "NaN": lambda: model().fit(np.where(odd, np.nan, X), y),
        "a secret": lambda: model().fit(pd.DataFrame({"age": ["John Smith"] * len(X)}) if odd else X[:, :1], y),
    }
    return {name: raised(call) for name, call in tries.items()}


def pickles(ranks, folder):
    """How many exchanges of a fit unpickle what others sent."""
    import torch.distributed as dist

    seen, real = [], dist.all_gather_object
    dist.all_gather_object = lambda *args, **kwargs: seen.append(args) or real(*args, **kwargs)
    try:
        model().fit(*own(ranks, *table()))
    finally:
        dist.all_gather_object = real
    return len(seen)


def odd_sites(ranks, folder):
    """Three rows of one class at one site, and all others at the other."""
    X, y = table()
    first = np.zeros(600, dtype=bool)
    first[np.flatnonzero(y)[:3]] = True
    here = first if ranks.rank == 0 else ~first
    fitted = model(epsilon=4.0).fit(X[here], y[here])
    return fitted.score(X, y), [stated.n for stated in fitted.privacy_by_site_.values()]


def stopped(ranks, folder):
    """Rank 1 dies in a phase of a round; what is left says what was spent, or goes on when all start again."""
    phase = os.environ["PHASE"]
    fit = model(insecure_noise_seed=None, epsilon=1.0, store=Path(folder) / f"site{ranks.rank}.json")
    if ranks.rank == 1 and phase != "again":
        die = lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        begin, write, total = site.Site.begin, site.SiteStore.write, type(ranks).sum
        counts = {"begin": 0}

        def counted(self, call):
            counts["begin"] += 1
            if counts["begin"] == 6:
                if phase == "before spending":
                    die()
                if phase == "while computing":
                    site.Task.run = die
                if phase == "before storing":
                    site.SiteStore.write = die
                if phase == "before sending":
                    site.SiteStore.write = lambda self, *args: write(self, *args) or die()
                if phase == "while adding up":
                    type(ranks).sum = die
                if phase == "after adding up":
                    type(ranks).sum = lambda self, numbers: total(self, numbers) is None or die()
            return begin(self, call)

        site.Site.begin = counted
    if ranks.rank == 0:
        remember(folder)
    try:
        fit.fit(*own(ranks, *table()))
    except RankFailureError as error:
        return str(error), error.spent.epsilon, fit.privacy_.to_dict()
    return coefficients(fit), fit.privacy_.to_dict()


def remember(folder):
    """Write down every reply of this process."""
    finish = site.Site.finish

    def noted(self, task, total):
        reply = finish(self, task, total)
        with open(Path(folder) / "replies", "ab") as file:
            pickle.dump((self.round, reply), file)
        return reply

    site.Site.finish = noted


QUICK = [silent, seeded, budgets, ledgers, crossing, pickles, schemas, odd_sites]


def main(names, folder):
    warnings.simplefilter("ignore")
    rank, found = int(os.environ["RANK"]), {}
    chosen = QUICK if names == "quick" else [globals()[name] for name in names.split(",")]
    try:
        with process_group(timeout=float(os.environ.get("TIMEOUT", 60))) as ranks:
            for scenario in chosen:
                found[scenario.__name__] = scenario(ranks, folder)
    except RankFailureError as error:
        found.setdefault("error", repr(error))
    (Path(folder) / f"found{rank}").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
