"""The secret randomness of a fit: which rows are drawn, and the noise. Never seeded by `random_state`."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# Above this rate a Bernoulli draw per row is cheaper than summing geometric gaps.
_DENSE_RATE = 0.2


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

    Examples
    --------
    >>> secret = SecretRandomness(torch.device("cpu"))
    >>> secret.normal(3).shape, len(secret.draw_rows(10, 0.5)) <= 10
    (torch.Size([3]), True)
    """

    def __init__(self, device: torch.device, insecure_seed: int | None = None, spent: int = 0):
        entropy = secrets.randbits(256) if insecure_seed is None else insecure_seed
        rows, noise = np.random.SeedSequence(entropy, spawn_key=(spent,) if spent else ()).spawn(2)
        self._rows = np.random.Generator(np.random.PCG64DXSM(rows))
        # torch's processor generator keeps 32 bits of a seed, few enough to try them all, and its normal numbers end at
        # 5.8 standard deviations; numpy's have neither fault.
        self._noise = np.random.Generator(np.random.PCG64DXSM(noise))
        self._device = device
        self._cuda_noise = None
        if device.type == "cuda":
            self._cuda_noise = torch.Generator(device=device)
            self._cuda_noise.manual_seed(int(noise.generate_state(1, np.uint64)[0]))

    def draw_rows(self, n: int, rate: float) -> np.ndarray | None:
        """Ascending indices of a Poisson sample of `n` rows, or None for all of them at rate 1.

        Gaps between successes of independent trials are geometric, so the work is that of the sample, not of n.
        """
        if rate >= 1:
            return None
        if rate > _DENSE_RATE:
            return np.flatnonzero(self._rows.random(n) < rate)
        picked: list[np.ndarray] = []
        last = -1
        while last < n:
            mean = (n - last) * rate
            gaps = np.minimum(self._rows.geometric(rate, int(mean + 4 * mean**0.5) + 8), n + 1)
            positions = last + np.cumsum(gaps)
            picked.append(positions)
            last = int(positions[-1])
        rows = np.concatenate(picked)
        return rows[: np.searchsorted(rows, n)]

    def normal(self, size: int) -> torch.Tensor:
        """Independent standard normal float32 numbers on the device."""
        if self._cuda_noise is not None:
            return torch.empty(size, device=self._device).normal_(generator=self._cuda_noise)
        return torch.from_numpy(self._noise.standard_normal(size, dtype=np.float32)).to(self._device)

    def array_normal(self, shape: tuple[int, ...]) -> np.ndarray:
        """Independent standard normal float64 numbers, for releases on arrays."""
        return self._noise.standard_normal(shape)


@contextmanager
def torch_randomness(device: torch.device, public_seed: int | None = None) -> Iterator[None]:
    """Torch's global generators seeded anew for what a net draws (dropout masks), and as they were afterwards.

    Left as the rows left them, they would tell how many rows were read.
    """
    cuda = [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
    seed = secrets.randbits(63) if public_seed is None else public_seed
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for index in cuda:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield
