"""DP-FTRL inherits the contract; its noise is measured after taking the correlation out again."""

from __future__ import annotations

from suite import Case, MechanismContract, data, measured

from skdp.contract import CyclicPoisson, FixedOrder
from skdp.mechanisms import DPFTRL
from skdp.mechanisms.factorisation import coefficients

FIXED = Case("fixed order", {"mechanism": "dp-ftrl"})
CYCLIC = Case("cyclic Poisson", {"mechanism": DPFTRL(bands=2, sampling="cyclic-poisson"), "clipping": "per-layer"})


class TestDPFTRL(MechanismContract):
    cases = [FIXED, CYCLIC]
    adjacencies = ("zero-out", "replace-one")  # one row more would move others to other batches

    def independent(self, case, noise):
        """C w = z: of 120 rows in batches of 40, the fixed order has three bands."""
        column = coefficients(3 if case is FIXED else 2, len(noise))
        assert len(noise) > 2
        return [
            sum(c * noise[t - j] for j, c in enumerate(column) if j <= t)
            for t in range(len(noise))
        ]  # fmt: skip

    def samples(self, case, draws, n, rate, steps):
        # Without noise there is nothing to correlate; the batches stay what they are.
        groups = FixedOrder(3).groups if case is FIXED else CyclicPoisson(rate, 2).groups
        for step in range(steps):
            group = draws.group(n, groups, step % groups)
            chosen = draws.draw_rows(len(group), 1.0 if case is FIXED else 2 * rate)
            yield group if chosen is None else group[chosen]

    def test_empty_samples_are_noisy_and_counted(self, case):
        """A fixed order has no empty sample: with batches of one row, each holds one."""
        if case is CYCLIC:
            super().test_empty_samples_are_noisy_and_counted(case)
            return
        X, y = data(50)
        model = case.classifier(batch_size=1, epsilon=8.0, feature_bounds=(-1, 1), module="linear")
        with measured() as seen:
            model.fit(X, y)
        assert model.privacy_.steps == len(X) == len(seen)
        assert all((noise != 0).all() for _, _, noise, _ in seen)
