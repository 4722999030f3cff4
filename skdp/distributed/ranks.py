"""What the processes of a group say to each other, so that all go on or none does.

Every exchange begins with a *roll call*: each rank says how it fares and where it is. So an error on one rank reaches
the others at their next exchange, an interrupt stops all at the same place, and ranks that are at different places of
a program hear so in the place of waiting for each other.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor
from torch import distributed as dist

from skdp.distributed.missing import missing_ranks
from skdp.exceptions import RankFailureError

__all__ = ["Ranks"]

_FINE, _STOP, _FAILED = 0, 1, 2
_LONGEST_TEXT = 64 << 20


class Ranks:
    """The processes of a group as one of them sees them; `skdp.distributed.process_group` makes it.

    Every method that exchanges something is called by all ranks, in the same order.

    Parameters
    ----------
    rank : int
        Number of this process, from 0.
    size : int
        Number of processes.
    control : ProcessGroup
        Of gloo; carries everything on the processor.
    device : ProcessGroup or None
        Of NCCL, where every rank has a GPU of its own: carries sums that are on it.
    timeout : float
        Seconds after which a rank that does not answer counts as dead.
    store : Store
        Where survivors sign in after a failure.

    Examples
    --------
    >>> from skdp.distributed import current
    >>> current() is None  # no group of processes here
    True
    """

    def __init__(self, rank: int, size: int, control: Any, device: Any, timeout: float, store: Any):
        self.rank, self.size, self.timeout = rank, size, timeout
        self.bytes_sent = 0
        """Bytes of sums that this rank has sent to others, without what the transport adds."""
        self._control, self._device, self._store = control, device, store
        self._broken = ""
        self._stop = False
        self._plain = False

    @contextlib.contextmanager
    def strangers(self) -> Iterator[None]:
        """While ranks are of several owners: only JSON and numbers are exchanged, and no error text of one of them.

        What others send is then data and never code, and what one rank says about its rows stays there.
        """
        self._plain = True
        try:
            yield
        finally:
            self._plain = False

    @property
    def leads(self) -> bool:
        """Whether this rank is the one that prints, writes files and tells ledgers."""
        return self.rank == 0

    @property
    def broken(self) -> bool:
        """Whether a rank is gone, so that nothing can be exchanged any more."""
        return bool(self._broken)

    def __repr__(self) -> str:
        return f"Ranks(rank={self.rank}, size={self.size})"

    def leave(self) -> None:
        """End the connections to the others."""
        for group in filter(None, (self._control, self._device)):
            dist.destroy_process_group(group)

    # ------------------------------------------------------------------ all or none
    def roll_call(self, place: str = "") -> None:
        """Meet all ranks.

        Parameters
        ----------
        place : str
            What this rank is about to do; must be the same for all.

        Raises
        ------
        RankFailureError
            A rank reported an error, is somewhere else, or does not answer.
        KeyboardInterrupt
            On all ranks, where one was asked to stop.
        """
        status, together = self._meet(_STOP if self._stop else _FINE, place)
        if status == _FAILED:
            self._raise_reported()
        if status == _STOP:
            self._stop = False
            raise _known(KeyboardInterrupt("the ranks stop together"))
        if not together:
            places = self._gather_json(place)
            said = "; ".join(f"rank {rank}: {what or 'at the end of a fit'}" for rank, what in enumerate(places))
            raise RankFailureError(
                f"the ranks are not at the same place ({said}): all must make the same calls in the same order, inside "
                "process_group() with the same parameters"
            )

    def ask_to_stop(self) -> None:
        """Stop all ranks, by a `KeyboardInterrupt` at their next exchange; safe in a signal handler."""
        self._stop = True

    @property
    def asked_to_stop(self) -> bool:
        """Whether this rank will stop all at the next exchange."""
        return self._stop

    def tell_interrupt(self, interrupt: BaseException) -> None:
        """Let the others stop where they are, because this rank was interrupted on its own."""
        if not _is_known(interrupt) and not self._broken:
            self._stop = True
            with contextlib.suppress(KeyboardInterrupt):
                self.roll_call()

    def report(self, error: BaseException, *, in_words: bool = True) -> None:
        """Make an error of this rank known to the others, who raise at their next exchange; once per error.

        What it says travels only `in_words`, and never between `strangers`: it may quote rows.
        """
        if isinstance(error, RankFailureError) or _is_known(error) or self._broken:
            return
        _known(error)
        self._stop = False
        with contextlib.suppress(RankFailureError):
            self._meet(_FAILED, "")
            aloud = in_words and not self._plain
            said = f"{type(error).__name__}: {error}" if aloud else f"{type(error).__name__}, see its own output"
            self._gather_json(said)

    def _raise_reported(self) -> NoReturn:
        self._stop = False
        reports = self._gather_json(None)
        rank, report = next((rank, report) for rank, report in enumerate(reports) if report is not None)
        raise RankFailureError(f"rank {rank} failed: {report}", rank=rank)

    def _meet(self, status: int, place: str) -> tuple[int, bool]:
        """Worst status, and whether all ranks are at the same place."""
        code = zlib.crc32(place.encode())
        facts = torch.tensor([status, code, -code])
        with self._speaking():
            dist.all_reduce(facts, op=dist.ReduceOp.MAX, group=self._control)
        status, most, least = facts.tolist()
        return status, most == -least

    # ------------------------------------------------------------------ small things
    def gather(self, thing: Any, what: str = "gather") -> list[Any]:
        """What every rank passed, by rank; anything that can be pickled."""
        if self._plain:
            json.dumps(thing)  # what cannot be written raises here, where the others can still hear of it
        self.roll_call(what)
        return self._gather(thing)

    def broadcast(self, thing: Any, what: str = "broadcast") -> Any:
        """What rank 0 passed."""
        return self.gather(thing if self.leads else None, what)[0]

    def any(self, flag: bool, what: str = "any") -> bool:
        """Whether it is true on any rank."""
        return any(self.gather(bool(flag), what))

    def agree(self, facts: Mapping[str, tuple[str, str]]) -> None:
        """Refuse, on all ranks, facts in which they differ.

        Parameters
        ----------
        facts : mapping of str to (str, str)
            By name: a digest, which is compared, and the fact in words, for the message.

        Raises
        ------
        ValueError
            Names what differs and what the ranks have.
        """
        everyone = self.gather(dict(facts), "agree on " + ", ".join(facts))
        for rank, theirs in enumerate(everyone):
            for name, (digest, words) in everyone[0].items():
                if theirs[name][0] != digest:
                    ours, others = f"{words} on rank 0", f"{theirs[name][1]} on rank {rank}"
                    message = f"{name} differs between the ranks: {ours}, {others}; pass the same to all of them"
                    raise _known(ValueError(message))

    def _gather(self, thing: Any) -> list[Any]:
        if self._plain:
            return self._gather_json(thing)
        everything: list[Any] = [None] * self.size
        with self._speaking():
            dist.all_gather_object(everything, thing, group=self._control)
        return everything

    def _gather_json(self, thing: Any) -> list[Any]:
        """What can be written as JSON; tuples come back as lists."""
        text = json.dumps(thing).encode()
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(text)
        with self._speaking():
            dist.all_reduce(lengths, group=self._control)
            if int(lengths.max()) > _LONGEST_TEXT:
                raise RuntimeError(f"a rank would send {int(lengths.max())} bytes of text")
            own = torch.zeros(int(lengths.max()), dtype=torch.uint8)
            own[: len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
            parts = [torch.empty_like(own) for _ in range(self.size)]
            dist.all_gather(parts, own, group=self._control)
        texts = [bytes(part[:length].numpy()) for part, length in zip(parts, lengths.tolist(), strict=True)]
        try:
            return [json.loads(each) for each in texts]
        except (ValueError, RecursionError):
            raise RankFailureError("a rank sent something that is no JSON") from None

    # ------------------------------------------------------------------ sums
    def sum(self, numbers: np.ndarray | float) -> np.ndarray:
        """Exact sum over all ranks, which every rank sees: for what is public.

        Parameters
        ----------
        numbers : array-like
            Of one shape on all ranks.

        Returns
        -------
        float64 ndarray of that shape
        """
        return self.release_array(np.asarray(numbers, dtype=np.float64), np.zeros)

    def release_array(self, numbers: np.ndarray, noise: Callable[[tuple[int, ...]], np.ndarray | float]) -> np.ndarray:
        """`release` of an array of float64.

        Parameters
        ----------
        numbers : ndarray
            Partial sums over the rows of this rank.
        noise : callable
            ``noise(shape)`` gives noise for some of the numbers.

        Returns
        -------
        ndarray
        """

        def add(part: Tensor) -> None:
            part += torch.as_tensor(noise(tuple(part.shape)))

        flat = torch.from_numpy(numbers.astype(np.float64).reshape(-1))
        return self.release(flat, add).numpy().reshape(numbers.shape)

    def release(
        self, numbers: Tensor, add_noise: Callable[[Tensor], None], dtype: torch.dtype = torch.float64
    ) -> Tensor:
        r"""Sum over all ranks, with noise once on every number; the same bits on every rank.

        Each rank adds up, of all ranks, the share of the numbers that is its own, adds noise to it, and gives it to
        everybody. No rank sees an exact sum of other numbers, and noise is drawn once for each.

        Parameters
        ----------
        numbers : tensor of shape (k,)
            Partial sums over the rows of this rank.
        add_noise : callable
            Adds noise in place to a tensor of shape (k',); called where this rank has a share.
        dtype : torch.dtype
            Of the answer.

        Returns
        -------
        tensor of shape (k,)

        Notes
        -----
        *Formal guarantee.* The answer is that of one process with all rows: a record lies on one rank, so it moves one
        partial sum by at most its bound, and the total as much. A rank sends :math:`(1 - 1/W)(k b + k d)` bytes, with
        the bytes b of a partial sum's number and d of an answer's.
        """
        self.roll_call(f"a sum of {len(numbers)} numbers")
        share = -(-len(numbers) // self.size)
        own = max(0, min(share, len(numbers) - self.rank * share))
        on_device = self._device is not None and numbers.is_cuda
        sent = numbers if on_device else numbers.cpu()
        sent = torch.nn.functional.pad(sent, (0, share * self.size - len(numbers)))
        with self._speaking():
            mine = self._scattered(sent, share, on_device)
        failure = None
        if own:
            try:
                add_noise(mine[:own])
            except Exception as error:  # the others are waiting: they get zeros, and hear of it at the next roll call
                failure = error
                mine.zero_()
        released = mine.to(dtype)
        everything = released.new_empty(share * self.size)
        with self._speaking():
            if on_device:
                gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
                self._finish(gather(everything, released, group=self._device, async_op=True))
            else:
                dist.all_gather(list(everything.split(share)), released, group=self._control)
        if failure is not None:
            raise failure
        self.bytes_sent += (self.size - 1) * share * (sent.element_size() + released.element_size())
        return everything[: len(numbers)].to(numbers.device)

    def _scattered(self, numbers: Tensor, share: int, on_device: bool) -> Tensor:
        """The share of this rank in the sum over all ranks: (share,)."""
        if on_device:
            mine = numbers.new_empty(share)
            scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
            self._finish(scatter(mine, numbers, group=self._device, async_op=True))
            return mine
        parts = torch.empty_like(numbers)
        dist.all_to_all_single(parts, numbers, group=self._control)
        return parts.view(self.size, share).sum(0)

    def _finish(self, work: Any) -> None:
        """Wait for the device without the watchdog that would end the process in the place of an error."""
        end = time.monotonic() + self.timeout
        while not work.is_completed():
            if time.monotonic() > end:
                raise RuntimeError(f"no answer from the other devices within {self.timeout:g} s")
            time.sleep(0)
        work.wait()

    # ------------------------------------------------------------------ ranks that are gone
    @contextlib.contextmanager
    def _speaking(self) -> Iterator[None]:
        """Turn what torch raises where a rank is gone into an error that says so; nothing can be said afterwards."""
        if self._broken:
            raise RankFailureError(f"this group of processes ended before: {self._broken}; start all ranks anew")
        try:
            yield
        except KeyboardInterrupt:
            self._broken = "it was interrupted in the middle of an exchange"
            raise
        except RuntimeError as error:
            self._broken = _in_short(error)
            gone = missing_ranks(self._store, self.rank, self.size)
            who = "a rank" if not gone else f"rank {', '.join(map(str, gone))}"
            raise RankFailureError(
                f"{who} ended, or did not answer within {self.timeout:g} s: {self._broken}",
                rank=gone[0] if gone else None,
            ) from error


def _known(error: BaseException) -> BaseException:
    """An error that the other ranks know of. It is marked and not kept: its traceback holds rows."""
    error._known_to_ranks = True
    return error


def _is_known(error: BaseException) -> bool:
    return getattr(error, "_known_to_ranks", False)


def _in_short(error: Exception) -> str:
    """What torch says, without where in its source it says so."""
    return re.sub(r"^\[[^ ]*\.cc:\d+\] ", "", str(error).split("\n")[0]).split(". ")[0]
