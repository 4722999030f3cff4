"""The secret randomness of a fit: which rows are drawn, the noise, and what a net draws for itself.

Never seeded by `random_state`.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

# Above this rate a Bernoulli draw per row is cheaper than summing geometric gaps.
_DENSE_RATE = 0.2
_TWISTER_OFFSET, _TWISTER_WORDS = 24, 624


def poisson_rows(generator: np.random.Generator, n: int, rate: float) -> np.ndarray:
    """Ascending indices of a Poisson sample of `n` rows, at a rate below 1.

    Gaps between successes of independent trials are geometric, so the work is that of the sample, not of n.
    """
    if rate > _DENSE_RATE:
        return np.flatnonzero(generator.random(n) < rate)
    picked: list[np.ndarray] = []
    last = -1
    while last < n:
        mean = (n - last) * rate
        gaps = np.minimum(generator.geometric(rate, int(mean + 4 * mean**0.5) + 8), n + 1)
        positions = last + np.cumsum(gaps)
        picked.append(positions)
        last = int(positions[-1])
    rows = np.concatenate(picked)
    return rows[: np.searchsorted(rows, n)]


class SecretRandomness:
    """Generators for row sampling and noise, seeded by the operating system.

    Parameters
    ----------
    device : torch.device
        Where noise is drawn.
    insecure_seed : int or None
        Reproducible noise, for tests and papers only: whoever knows the seed can subtract the noise.
    spent : int, default=0
        Queries answered before, when a fit goes on; gives a seeded stream of its own, as noise must never repeat.
    rank : int or None
        Which of several processes this is; gives each a seeded stream of its own.

    Examples
    --------
    >>> secret = SecretRandomness(torch.device("cpu"))
    >>> secret.normal(3).shape, len(secret.draw_rows(10, 0.5)) <= 10
    (torch.Size([3]), True)
    """

    def __init__(self, device: torch.device, insecure_seed: int | None = None, spent: int = 0, rank: int | None = None):
        entropy = secrets.randbits(256) if insecure_seed is None else insecure_seed
        # A pool of eight words: the usual four would keep 128 bits.
        key = ((spent,) if spent else ()) if rank is None else (spent, rank)
        seeds = np.random.SeedSequence(entropy, spawn_key=key, pool_size=8)
        rows, noise, net, device_noise, order = seeds.spawn(5)
        self._rows = np.random.Generator(np.random.PCG64DXSM(rows))
        # torch's processor generator keeps 32 bits of a seed, few enough to try them all, and its normal numbers end at
        # 5.8 standard deviations.
        self._noise = np.random.Generator(np.random.PCG64DXSM(noise))
        self._order = np.random.Generator(np.random.PCG64DXSM(order))
        self._orders: dict[int, np.ndarray] = {}
        self._device = device
        self._cuda_noise = None
        if device.type == "cuda":
            self._cuda_noise = torch.Generator(device=device)
            self._cuda_noise.manual_seed(int(device_noise.generate_state(1, np.uint64)[0]))
        self._generators = _generators(device)
        self._net_states = _net_states(device, net)

    def draw_rows(self, n: int, rate: float) -> np.ndarray | None:
        """Ascending indices of a Poisson sample of `n` rows, or None for all of them at rate 1."""
        return None if rate >= 1 else poisson_rows(self._rows, n, rate)

    def coins(self, size: int) -> np.ndarray:
        """Independent uniform float64 numbers in (0, 1], from the stream that draws rows."""
        return 1 - self._rows.random(size)

    def group(self, n: int, groups: int, number: int) -> np.ndarray:
        """Rows of group `number`, when `n` rows are cut into groups of equal size (to one) in a random order.

        The order is drawn once for the whole fit and depends on `n` alone.
        """
        if n not in self._orders:
            self._orders[n] = self._order.permutation(n)
        return self._orders[n][number * n // groups : (number + 1) * n // groups]

    def normal(self, size: int) -> torch.Tensor:
        """Independent standard normal float32 numbers on the device.

        The polar form of pairs (Box and Muller) out of 64 bits for the radius, so that the tails reach 9.4 standard
        deviations, and 32 for the angle: half the time of numpy's own normal numbers.
        """
        if self._cuda_noise is not None:
            return torch.empty(size, device=self._device).normal_(generator=self._cuda_noise)
        pairs = (size + 1) // 2
        bits = self._noise.integers(0, 2**64 - 1, (3 * pairs + 1) // 2, np.uint64, endpoint=True).view(np.uint32)
        high, low, turn = (bits[i * pairs : (i + 1) * pairs] for i in range(3))
        radius = low.astype(np.float32)
        np.maximum(radius, 1, out=radius)
        radius *= 2.0**-32
        radius += high
        radius *= 2.0**-32
        np.log(radius, out=radius)
        radius *= -2
        # Where the uniform number rounds up to one, the logarithm is zero with either sign.
        np.sqrt(np.abs(radius, out=radius), out=radius)
        angle = turn.view(np.int32).astype(np.float32)
        angle *= math.pi * 2.0**-31
        numbers = np.empty((2, pairs), np.float32)
        np.multiply(radius, np.cos(angle), out=numbers[0])
        np.multiply(radius, np.sin(angle, out=angle), out=numbers[1])
        return torch.from_numpy(numbers.reshape(-1)[:size]).to(self._device)

    def array_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent standard normal float64 numbers, for releases on arrays."""
        return self._noise.standard_normal(shape)

    def array_uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent float64 numbers, uniform in [0, 1), for randomised responses."""
        return self._noise.random(shape)

    @contextmanager
    def net_draws(self) -> Iterator[None]:
        """Torch's global generators on a secret stream of this fit, and as they were afterwards.

        What a net draws is part of the mechanism: with known dropout masks the place of a record in its batch would
        decide the masks of those behind it, and a generator that rows have moved tells how many they were.
        """
        outside = [get() for get, _ in self._generators]
        try:
            for (_, put), state in zip(self._generators, self._net_states, strict=True):
                put(state)
            yield
        finally:
            reached = [get() for get, _ in self._generators]
            for (_, put), state in zip(self._generators, outside, strict=True):
                put(state)
            self._net_states = reached


def _generators(device: torch.device) -> list[tuple[Callable[[], torch.Tensor], Callable[[torch.Tensor], None]]]:
    """How to read and set the state of torch's global generators that a forward pass on `device` draws from."""
    pairs = [(torch.get_rng_state, torch.set_rng_state)]
    if device.type == "cuda":
        pairs.append((lambda: torch.cuda.get_rng_state(device), lambda state: torch.cuda.set_rng_state(state, device)))
    elif device.type == "mps":
        pairs.append((torch.mps.get_rng_state, torch.mps.set_rng_state))
    return pairs


def _net_states(device: torch.device, seeds: np.random.SeedSequence) -> list[torch.Tensor]:
    """Fresh states of those generators."""
    whole = torch.Generator().manual_seed(0).get_state()
    # `manual_seed` keeps 32 bits of a seed, so the words of the Mersenne twister are filled in one by one. They stand
    # behind the seed and three numbers that say where in them to go on; that of a fresh generator is "twist first".
    words = seeds.generate_state(_TWISTER_WORDS, np.uint32).astype(np.int64)
    whole[_TWISTER_OFFSET : _TWISTER_OFFSET + 8 * _TWISTER_WORDS] = torch.from_numpy(words).view(torch.uint8)
    states = [whole]
    if device.type != "cpu":
        generator = torch.Generator(device=device).manual_seed(int(seeds.spawn(1)[0].generate_state(1, np.uint64)[0]))
        states.append(generator.get_state())
    return states
