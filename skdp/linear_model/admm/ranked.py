"""Rounds over the processes of a group, each of which is a site: only noisy models cross, as a sum."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from skdp.accounting import PrivacyStatement, resolve_delta
from skdp.accounting.checks import is_real
from skdp.contract.shown import shown
from skdp.contract.whole_numbers import is_whole
from skdp.distributed import Ranks, current, lockstep
from skdp.exceptions import RankFailureError
from skdp.linear_model.admm.agreement import agree, arrays_for, multiplier_for, squared_norms
from skdp.linear_model.admm.coordinator import Consensus
from skdp.linear_model.admm.division import budgets_of
from skdp.linear_model.admm.messages import Call
from skdp.linear_model.admm.site import Site
from skdp.neural_network.ranked import agree_on
from skdp.user_line import warn_all, warn_user

__all__ = ["fit_ranked", "run_ranked_rounds"]

# What a site decides for itself.
_OWN = ("epsilon", "noise_multiplier", "site", "store", "n_public", "on_invalid", "verbose", "insecure_noise_seed")


def agree_on_schema(ranks: Ranks, estimator: Any, problem: Any) -> None:
    """Refuse, on all ranks, other columns, labels or parameters than the others have.

    Raises
    ------
    ValueError
        Names what differs and what the ranks have.
    """
    public = problem.public
    kind = f"{type(estimator).__name__}, {public.task} with {public.n_outputs} outputs"
    ranks.agree({"the kind of problem": (kind, kind)})
    names = getattr(estimator, "feature_names_in_", None)
    facts = {
        "the number of columns": public.input_shape,
        "the names of columns": None if names is None else names.tolist(),
        "the columns of 0 and 1": public.indicators,
        "classes": None if problem.classes is None else problem.classes.tolist(),
        **{name: value for name, value in estimator.get_params(deep=False).items() if name not in _OWN},
    }
    agree_on(ranks, facts)


def run_ranked_rounds(
    ranks: Ranks, site: Site, *, each: Callable[[Consensus], None] = lambda consensus: None
) -> Consensus:
    """All rounds to the end, from where the sites' stores say that they stopped.

    Parameters
    ----------
    ranks : Ranks
    site : Site
        Of this process.
    each : callable
        Told after every round.

    Returns
    -------
    Consensus
        The same on every rank.

    Raises
    ------
    RankFailureError
        Another rank failed, died or hangs.

    Notes
    -----
    Every rank is its own coordinator: it adds up the sites' proposals, which are functions of noisy models, by one
    all-reduce a round. A site that stored its reply to a round and one that did not may both have been stopped: the
    first sends what it stored, the other goes on from the common model that the first one was given.
    """
    terms = site.terms
    last = None if site.last_call is None else site.last_call.hex()
    states = ranks.gather((site.round, last, site.memo, site.name, site.resumed), "where sites stand")
    furthest, last, memo, *_ = max(states, key=lambda state: state[0])
    # Whoever stored a round has seen all the others finish the one before.
    lost = [name for round, _, _, name, resumed in states if furthest and (not resumed or round < furthest - 1)]
    if lost:
        site.withdraw()
        raise ValueError(
            f"site {lost[0]!r} has no store, or an old one, but the training is at round {furthest}: nobody knows how "
            "many noisy models it has sent before. Give it its store; or begin anew with new stores at all sites, and "
            "count both"
        )
    if len({state[1] for state in states if state[0] == furthest}) > 1:
        raise ValueError("the stores of the sites are not of one training; begin anew with new stores, and count both")
    if min(state[0] for state in states) == terms.rounds:
        warn_user("store: it holds a finished training, whose model this is; nothing was trained, and nothing spent")
    call = None if last is None else bytes.fromhex(last)
    consensus = Consensus.from_dict(terms, memo) if memo else Consensus(terms)
    while consensus.round < terms.rounds:
        if call is None:
            call = Call(terms.digest, consensus.round + 1, consensus.model).to_bytes()
        site.memo = consensus.to_dict()
        site.answer(call)
        sums = np.concatenate([site.proposal.ravel(), [float(np.square(site.model - consensus.model).sum())]])
        sums = ranks.sum(sums)
        consensus.step(sums[:-1].reshape(terms.shape), float(sums[-1]), ranks.size)
        call = None
        each(consensus)
    return consensus


def fit_ranked(estimator: Any, X: Any, y: Any, sample_weight: Any) -> Any:
    """Fit an estimator whose process is one site among those of the group; see `DPADMMClassifier`.

    Raises
    ------
    ValueError
        Outside of a process group, or where sites differ in what they have to agree on; nothing is spent then.
    RankFailureError
    """
    group = current()
    with nullcontext() if group is None else group.strangers(), lockstep() as ranks:
        if ranks is None:
            raise ValueError(
                "engine='torch.distributed' trains over the processes of a skdp.distributed.process_group, at least "
                "two of them; start the script by torchrun and fit inside `with process_group():`"
            )
        name = str(ranks.rank if estimator.site is None else estimator.site)
        if getattr(estimator, "classes", ()) is None:
            raise ValueError("classes=None: no site sees the labels of all; pass the public list, classes=[...]")
        problem = estimator._problem(X, y, sample_weight)
        agree_on_schema(ranks, estimator, problem)
        names = ranks.gather(name, "names of sites")
        if len(set(names)) < len(names):
            raise ValueError(f"site={name!r}: sites must have names that differ, but they are {shown(names)}")
        rows = ranks.gather(int(problem.public.n), "numbers of rows")
        if not all(is_whole(n, 0) for n in rows) or sum(rows) < 1:
            raise ValueError(f"the sites say that they have {shown(rows)} rows; these must be whole numbers")
        delta = resolve_delta(estimator.delta, sum(rows))
        epsilon = budgets_of(estimator.epsilon, names)[name]
        multipliers = ranks.gather(multiplier_for(estimator, epsilon, delta), "noise multipliers")
        if not all(z is None or (is_real(z) and 0 < z < math.inf) for z in multipliers):
            raise ValueError(f"the sites say that their noise multipliers are {shown(multipliers)}; these are none")
        norm = None
        if not any(multipliers):
            total, n = ranks.sum(np.array([squared_norms(estimator, problem), len(problem.inputs)]))
            norm = math.sqrt(total / n)
        terms = agree(estimator, problem, delta=delta, rows=rows, multipliers=multipliers, norm=norm)
        found = estimator._notes(epsilon, delta, problem)
        warn_all(found)
        estimator._warn_if_hopeless(replace(problem.public, n=sum(rows)), multipliers, [epsilon])
        notes = [*problem.warnings, *(message for _, message in found)]
        ranks.agree({"the terms": (terms.digest, terms.digest[:12])})
        seed = estimator.insecure_noise_seed
        site = Site(
            terms, arrays_for(problem, terms), problem.null, name, epsilon=epsilon,
            noise_multiplier=estimator.noise_multiplier, rows=int(problem.public.n), store=estimator.store,
            facts=problem.facts, assumptions=problem.assumptions,
            insecure_noise_seed=None if seed is None else (seed, ranks.rank),
        )  # fmt: skip
        most = estimator.max_sites_per_person
        try:
            consensus = run_ranked_rounds(ranks, site, each=estimator._tell if ranks.leads else lambda consensus: None)
            of_rows, of_persons = site.settle(notes), site.person_statement(most, terms.rows, notes)
            stated = ranks.gather((of_rows.to_dict(), of_persons.to_dict()), "statements")
        except BaseException as error:
            if isinstance(error, RankFailureError):
                name_what_was_sent(error, site)
            elif isinstance(error, KeyboardInterrupt):
                error.add_note(what_was_sent(site))
            of_rows = site.row_statement(notes) if site.stored else site.settle(notes)
            if site.round:  # a stored site may go on, so it counts as planned; what others spent, they state
                estimator._spent([name], [of_rows], [of_rows], False, most=1)
            site.close()
            raise
    of_rows, of_persons = ([PrivacyStatement.from_dict(pair[i]) for pair in stated] for i in range(2))
    estimator._spent(names, of_rows, of_persons, True)
    estimator._adopt(problem, terms, consensus, multipliers)
    return estimator


def name_what_was_sent(error: RankFailureError, site: Site) -> None:
    """Let the failure of another rank say what this site has spent, and how to go on."""
    error.spent = site.row_statement()
    error.args = (f"{error}. {what_was_sent(site)}",)


def what_was_sent(site: Site) -> str:
    """How far a site has come, what that costs, and how to go on."""
    if not site.round:
        return f"Site {site.name!r} has sent no noisy model, and nothing is spent"
    planned = site.row_statement()
    on = "start all sites again with the same stores to go on" if site.stored else "pass store= to be able to go on"
    return (
        f"Site {site.name!r} has sent {site.round} of {site.terms.rounds} noisy models; all of them would cost "
        f"epsilon={planned.epsilon:.4g} at delta={planned.delta:.3g}, and count as spent until they are: {on}"
    )
