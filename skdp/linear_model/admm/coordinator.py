"""The coordinator: it only ever receives noisy messages, and makes one model out of them."""

from __future__ import annotations

import math

import numpy as np

from skdp.exceptions import ProtocolError
from skdp.linear_model.admm.iterate import Iterate
from skdp.linear_model.admm.messages import Call, Join, Reply, read_message
from skdp.linear_model.admm.terms import Terms

__all__ = ["Consensus", "Coordinator"]

# An honest reply is louder than this many standard deviations of its noise about never: once in 1e22 numbers.
_DEVIATIONS = 10.0


class Consensus:
    """The common model, from what sites propose: their mean, the exact step of the penalty, the running average.

    Parameters
    ----------
    terms : Terms

    Attributes
    ----------
    model : ndarray of shape (outputs, columns)
        After the last round.
    round : int
        The last finished round.
    trace : list of dict
        Public numbers of each round: how many sites took part, how far their models are apart, and how far the common
        one moved.

    Examples
    --------
    >>> from skdp.linear_model.admm import Consensus, Terms
    >>> terms = Terms(columns=("x",), task="binary", outputs=1, rows=200, sites=2, classes=(0, 1), rounds=20,
    ...               clip=1.5, rho=0.5, curvature=1.0, delta=1e-4)
    >>> consensus = Consensus(terms)
    >>> consensus.step(np.array([[3.0, 1.0]]), spread=0.0, sites=2)
    >>> consensus.model
    array([[1.5, 0.5]])
    """

    def __init__(self, terms: Terms):
        self._terms = terms
        self.model = np.zeros(terms.shape)
        self.round = 0
        self.trace: list[dict[str, float]] = []
        self._mean, self._averaged = np.zeros(terms.shape), 0

    def step(self, proposals: np.ndarray, spread: float, sites: int) -> None:
        """Finish a round.

        Parameters
        ----------
        proposals : ndarray of shape (outputs, columns)
            Sum of the sites' proposals.
        spread : float
            Sum of the squared distances of their models from the last common one.
        sites : int
            How many take part.
        """
        terms, before = self._terms, self.model
        self.model = terms.penalty.prox(proposals / sites, 1 / (sites * terms.rho))
        self.round += 1
        if self.round > terms.rounds * (1 - terms.average):
            self._averaged += 1
            self._mean = self._mean + (self.model - self._mean) / self._averaged
        self.trace.append({
            "round": self.round,
            "sites": sites,
            "spread": math.sqrt(spread / sites),
            "moved": float(np.linalg.norm(self.model - before)),
        })  # fmt: skip

    def to_dict(self) -> dict:
        """In plain JSON types, without the trace."""
        return {
            "model": self.model.tolist(), "round": self.round, "mean": self._mean.tolist(), "averaged": self._averaged,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, terms: Terms, plain: dict) -> Consensus:
        """From what `to_dict` gave."""
        found = cls(terms)
        found.model, found._mean = (
            np.array(plain[name], dtype=float).reshape(terms.shape) for name in ("model", "mean")
        )
        found.round, found._averaged = int(plain["round"]), int(plain["averaged"])
        return found

    @property
    def result(self) -> np.ndarray:
        """The mean of the last rounds' models, or the last one."""
        return self._mean if self._averaged else self.model


class Coordinator:
    """Asks sites for their noisy models round after round, and checks every message.

    Parameters
    ----------
    terms : Terms
    staleness : int, default=0
        For how many rounds a site that is late may be represented by its last reply. A site that is later is left out
        until it replies again, and may come back as long as there are rounds; so may sites that join late.

    Attributes
    ----------
    consensus : Consensus

    Notes
    -----
    A dishonest site can do little more than the rows that it says it has, which hold what it likes: a reply is refused
    where the gradient that leads to it is longer than the clip norm times their number, beyond what noise explains. It
    cannot say that it has more rows than the terms leave to it.

    The coordinator follows every site's arithmetic, so it needs every reply that a site made. One that is late is taken
    in when it comes; where one was lost, `receive` says which, and the site gives it again to the same call.

    Examples
    --------
    >>> from skdp.linear_model.admm import Coordinator, Site, Terms
    >>> terms = Terms(columns=("x",), task="binary", outputs=1, rows=200, sites=2, classes=(0, 1), rounds=20,
    ...               clip=1.5, rho=0.5, curvature=1.0, delta=1e-4)
    >>> rng, none = np.random.default_rng(0), np.zeros(100, dtype=bool)
    >>> def rows():
    ...     x = rng.uniform(-1, 1, size=(100, 1))
    ...     return {"X": np.hstack([x, np.ones((100, 1))]), "y": np.sign(x)}
    >>> sites = [Site(terms, rows(), none, name, epsilon=2.0) for name in ("north", "south")]
    >>> coordinator = Coordinator(terms)
    >>> for site in sites:
    ...     coordinator.admit(site.join())
    >>> while not coordinator.finished:
    ...     call = coordinator.call()
    ...     for site in sites:
    ...         coordinator.receive(site.answer(call))
    ...     coordinator.advance()
    >>> coordinator.consensus.result.shape
    (1, 2)
    """

    def __init__(self, terms: Terms, *, staleness: int = 0):
        self.terms = terms
        self.staleness = int(staleness)
        self.consensus = Consensus(terms)
        self._joins: dict[str, Join] = {}
        self._iterates: dict[str, Iterate] = {}
        self._replies: dict[tuple[str, int], bytes] = {}
        self._models: dict[int, np.ndarray] = {}  # that were sent, by round

    # ------------------------------------------------------------------ who takes part
    def admit(self, join: bytes) -> None:
        """Let a site take part, from the next call on.

        Parameters
        ----------
        join : bytes
            What `Site.join` gave.

        Raises
        ------
        ProtocolError
            For a broken message, other terms, a name that is taken by a site that said something else, or more sites,
            rows or noise than the terms have.
        """
        told = read_message(join, Join, self.terms)
        if told.site in self._joins and self._joins[told.site] != told:
            raise ProtocolError(f"there is a site {told.site!r} already, with other rows or noise: names must differ")
        joined = self._joins | {told.site: told}
        rows = sum(each.rows for each in joined.values())
        if len(joined) > self.terms.sites or rows > self.terms.rows or told.multiplier > self.terms.loudest:
            raise ProtocolError(
                f"site {told.site!r} would make {len(joined)} sites with {rows} rows, at a noise multiplier of "
                f"{told.multiplier:.4g}; the terms have {self.terms.sites}, {self.terms.rows} and up to "
                f"{self.terms.loudest:.4g}"
            )
        self._joins[told.site] = told
        self._iterates.setdefault(told.site, Iterate(self.terms))

    @property
    def round(self) -> int:
        """The round that is asked for."""
        return self.consensus.round + 1

    @property
    def finished(self) -> bool:
        """Whether all rounds are done."""
        return self.round > self.terms.rounds

    @property
    def waiting(self) -> list[str]:
        """Sites that have not replied in this round."""
        return [name for name, iterate in self._iterates.items() if iterate.round < self.round]

    # ------------------------------------------------------------------ rounds
    def call(self, round: int | None = None) -> bytes:
        """The message to all sites that asks for this round, or hands over the last model.

        Parameters
        ----------
        round : int, optional
            An earlier one: the call that was made then, for a site whose reply to it was lost.

        Returns
        -------
        bytes
        """
        if round is not None and round not in self._models:
            raise ProtocolError(f"round {round} was not called for")
        model = self._models.setdefault(self.round, self.consensus.model) if round is None else self._models[round]
        return Call(self.terms.digest, self.round if round is None else round, model).to_bytes()

    def receive(self, reply: bytes) -> None:
        """Take in a site's reply to this round's call, or a late one; the same bytes again change nothing.

        Parameters
        ----------
        reply : bytes
            What `Site.answer` gave.

        Raises
        ------
        ProtocolError
            For a reply that is broken, of an unknown site, to no call, a second and different one, one that follows a
            reply which is missing here, or longer than the site's rows and noise explain. The round goes on as if it
            had not come.
        """
        told = read_message(reply, Reply, self.terms)
        if told.site not in self._joins:
            raise ProtocolError(f"site {told.site!r} has not joined")
        if self._replies.get((told.site, told.round)) == bytes(reply):
            return
        iterate = self._iterates[told.site]
        if told.round not in self._models or told.round <= iterate.round:
            raise ProtocolError(
                f"site {told.site!r} replies to round {told.round}, but round {self.round} is asked for, and it has "
                f"replied up to {iterate.round}: the message was replayed, or says something else"
            )
        if told.after < iterate.round:
            raise ProtocolError(
                f"site {told.site!r} replies to round {told.round} after round {told.after}, but it has replied up to "
                f"{iterate.round}: it has lost its store, and may have drawn a round twice; leave it out"
            )
        if told.after != iterate.round:
            raise ProtocolError(
                f"site {told.site!r} replies to round {told.round} after round {told.after}, but its last reply here "
                f"is to round {iterate.round}: send call({told.after}) again, and take in the answer before this"
            )
        heard = iterate.heard(self._models[told.round])
        self._check_length(told, float(np.linalg.norm(heard.gradient_to(told.model, told.round))))
        self._iterates[told.site] = heard.moved(told.model, told.round)
        self._replies[told.site, told.round] = bytes(reply)

    def advance(self) -> None:
        """Finish the round with the sites that replied, and those that are late but not too late.

        Raises
        ------
        ProtocolError
            No site is left, or one is late and `staleness` waits for none.
        """
        taking_part = {
            name: iterate
            for name, iterate in self._iterates.items()
            if iterate.round and self.round - iterate.round <= self.staleness
        }
        if not any(iterate.round == self.round for iterate in taking_part.values()):
            raise ProtocolError(f"no site has replied in round {self.round}; those that joined: {sorted(self._joins)}")
        models = [iterate.model for iterate in taking_part.values()]
        proposals = sum(iterate.proposal for iterate in taking_part.values())
        spread = sum(float(np.square(model - self.consensus.model).sum()) for model in models)
        self.consensus.step(proposals, spread, len(models))

    def _check_length(self, told: Reply, gradient: float) -> None:
        terms, join = self.terms, self._joins[told.site]
        if math.isinf(terms.clip):
            return
        loudest = join.multiplier * (math.sqrt(math.prod(terms.shape)) + _DEVIATIONS)
        most = terms.clip * (join.rows + loudest) / (terms.rows * terms.sampling_rate)
        # What rounding adds grows with what is subtracted: the models themselves.
        slack = 1e-9 * (1 + np.abs(told.model).max()) * (terms.rho + terms.inverse_step(told.round))
        if not gradient <= most + slack:
            raise ProtocolError(
                f"site {told.site!r} replies with a gradient of norm {gradient:.3g}, but {join.rows} records under a "
                f"clip norm of {terms.clip:g} and its noise explain no more than {most:.3g}"
            )
