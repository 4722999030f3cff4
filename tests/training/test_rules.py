"""Every rule against ordinary autograd, one record at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from rule_cases import CASES, Positions, one_by_one, per_record
from torch import nn

from skdp.training.captured import exact_float32
from skdp.training.clipping import clip_factors, total_squares
from skdp.training.per_example import PerExample
from skdp.training.rules.gradients import Dense, Outer, Rows, gram_squares, row_squares


def make(name, batch=6, seed=0):
    torch.manual_seed(seed)
    factory, inputs = CASES[name]
    return factory(), inputs(batch)


def capture(module, x, loss=per_record):
    per_example = PerExample(module)
    with per_example:
        captured = per_example.backward(loss(module(x)))
    return per_example, captured


def sums(per_example, captured, factors):
    flat = torch.zeros(sum(p.numel() for p in per_example.parameters.values()))
    parts = flat.split([p.numel() for p in per_example.parameters.values()])
    views = [part.view(p.shape) for part, p in zip(parts, per_example.parameters.values(), strict=True)]
    captured.add_weighted_sums(factors, views)
    return dict(zip(per_example.parameters, views, strict=True))


def close(one, two, rtol=1e-4):
    scale = max(float(two.abs().max()) if two.numel() else 0.0, 1e-6)
    torch.testing.assert_close(one, two, rtol=rtol, atol=rtol * scale)


def check(module, x, rtol=1e-4):
    truth = one_by_one(module, x)
    per_example, captured = capture(module, x)
    assert list(per_example.parameters) == list(truth)
    assert sorted(n for group in per_example.groups for n in group) == sorted(truth)
    for group, squares in zip(per_example.groups, captured.squared_norms(), strict=True):
        assert squares.dtype == torch.float32
        close(squares, sum(truth[name].flatten(1).square().sum(1) for name in group), rtol)
    factors = torch.rand(len(x))
    for name, total in sums(per_example, captured, factors).items():
        close(total, torch.einsum("n,n...->...", factors, truth[name]), rtol)
    by_group = [torch.rand(len(x)) for _ in per_example.groups]
    parts = sums(per_example, captured, by_group)
    for group, factors in zip(per_example.groups, by_group, strict=True):
        for name in group:
            close(parts[name], torch.einsum("n,n...->...", factors, truth[name]), rtol)


@pytest.mark.parametrize("batch", [0, 1, 6])
@pytest.mark.parametrize("name", CASES)
def test_equals_autograd_one_by_one(name, batch):
    if batch == 0 and name.startswith("instance norm"):
        pytest.skip("torch's own instance norm refuses an empty batch")
    check(*make(name, batch))


@pytest.mark.parametrize("name", CASES)
def test_pieces_equal_the_whole(name):
    module, x = make(name, 7)
    per_example, whole = capture(module, x)
    factors = torch.rand(7)
    total = sums(per_example, whole, factors)
    pieces = [capture(module, x[part])[1] for part in (slice(0, 3), slice(3, 7))]
    for g, squares in enumerate(whole.squared_norms()):
        close(torch.cat([piece.squared_norms()[g] for piece in pieces]), squares, 1e-5)
    parts = [sums(per_example, piece, f) for piece, f in zip(pieces, factors.split([3, 4]), strict=True)]
    for name_, value in total.items():
        close(sum(part[name_] for part in parts), value, 1e-5)


@pytest.mark.parametrize("name", [n for n in CASES if n not in {"weight norm"}])
def test_bfloat16_module_has_float32_norms_and_sums_of_the_same_numbers(name):
    module, x = make(name, 1)
    module.bfloat16()
    x = x.bfloat16() if x.is_floating_point() else x
    per_example, captured = capture(module, x)
    total = torch.cat([t.flatten() for t in sums(per_example, captured, torch.ones(1)).values()])
    squares = total_squares(captured.squared_norms())
    assert total.dtype == squares.dtype == torch.float32
    close(squares, total.square().sum()[None])  # one record: the sum is the gradient whose norm was reported


def test_autocast_computes_norms_and_sums_in_float32():
    module, x = make("encoder", 3)
    truth = one_by_one(module, x)
    per_example = PerExample(module)
    with per_example, torch.autocast("cpu", dtype=torch.bfloat16):
        captured = per_example.backward(per_record(module(x)))
        total = sums(per_example, captured, torch.ones(3))
        squares = total_squares(captured.squared_norms())
    assert squares.dtype == torch.float32
    expected = sum(t.flatten(1).square().sum(1) for t in truth.values())
    close(squares, expected, 0.2)
    assert not torch.allclose(squares, expected, rtol=1e-5)  # the forward pass did run in bfloat16
    close(total["layers.0.linear1.weight"], truth["layers.0.linear1.weight"].sum(0), 0.2)


@pytest.mark.parametrize("name", ["linear written", "linear gram", "conv2d", "conv2d gram", "encoder"])
def test_autocast_around_norms_and_sums_changes_nothing(name):
    module, x = make(name)
    truth = one_by_one(module, x)
    per_example, captured = capture(module, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        squares = total_squares(captured.squared_norms())
        total = sums(per_example, captured, torch.ones(6))
    close(squares, sum(t.flatten(1).square().sum(1) for t in truth.values()))
    for parameter, value in total.items():
        close(value, truth[parameter].sum(0))


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_reduced_precision_settings_are_off_inside_and_back_outside(device):
    backends = torch.backends
    used = [backends.mkldnn.matmul, backends.mkldnn.conv]
    used = used if device == "cpu" else [backends.cuda.matmul, backends.cudnn.conv]
    before = [backend.fp32_precision for backend in used]
    try:
        for backend in used:
            backend.fp32_precision = "tf32"
        with exact_float32(torch.device(device)):
            assert [backend.fp32_precision for backend in used] == ["ieee", "ieee"]
        assert [backend.fp32_precision for backend in used] == ["tf32", "tf32"]
    finally:
        for backend, precision in zip(used, before, strict=True):
            backend.fp32_precision = precision


@pytest.mark.parametrize("name", ["encoder", "lstm", "own parameters", "conv2d"])
def test_training_mode_dropout_is_drawn_once(name):
    torch.manual_seed(0)
    inner, x = make(name)
    module = encoder_with_dropout() if name == "encoder" else inner
    if name == "lstm":
        module.dropout = 0.5
    if name in {"own parameters", "conv2d"}:
        module = nn.Sequential(module, nn.Dropout(0.5), Inside())
    per_example = PerExample(module)
    with per_example:
        losses = per_record(module(x))
        usual = torch.autograd.grad(
            losses.sum(), list(per_example.parameters.values()), retain_graph=True, allow_unused=True
        )
        captured = per_example.backward(losses)
    for total, expected in zip(sums(per_example, captured, torch.ones(6)).values(), usual, strict=True):
        close(total, torch.zeros_like(total) if expected is None else expected)


def encoder_with_dropout():
    layer = nn.TransformerEncoderLayer(8, 2, 12, 0.3, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class Inside(nn.Module):
    """Dropout within a module that the fallback serves."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return nn.functional.dropout(x * self.scale, 0.5, self.training)


@pytest.mark.parametrize("name", CASES)
def test_the_forward_pass_is_unchanged(name):
    module, x = make(name)
    if name == "branching":
        module[1].forward = super(type(module[1]), module[1]).forward  # one branch for all records
    expected = module(x)
    with PerExample(module):
        got = module(x)
    for one, two in zip(_tensors(got), _tensors(expected), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def _tensors(values):
    return [values] if isinstance(values, torch.Tensor) else [t for v in values for t in _tensors(v)]


# ------------------------------------------------------------------ adversarial rows

BAD = [float("nan"), float("inf"), 1e8, 1e19, 1e25, -3e38, 1e-30, 1e-42]
FLOATING = [n for n, (_, inputs) in CASES.items() if inputs(1).is_floating_point() and n != "branching"]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", FLOATING)
def test_no_input_row_exceeds_the_bound_or_disturbs_another(name, value):
    module, x = make(name)
    bad = x.clone()
    bad[2] = bad[2] * value if abs(value) < float("inf") else value
    _assert_bounded(module, bad, x, per_record)


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("name", CASES)
def test_no_loss_exceeds_the_bound_or_disturbs_another(name, value):
    module, x = make(name)
    scale = torch.ones(6)
    scale[2] = value
    _assert_bounded(module, x, x, lambda output: per_record(output) * scale)


def _assert_bounded(module, bad, good, loss, bound=0.5):
    for clipping in ("flat", "per-layer"):
        per_example, captured = capture(module, bad, loss)
        factors = clip_factors(captured.squared_norms(), bound, clipping)
        alone = [f * (torch.arange(6) == 2) for f in (factors if isinstance(factors, list) else [factors])]
        others = [f * (torch.arange(6) != 2) for f in (factors if isinstance(factors, list) else [factors])]
        unwrap = (lambda f: f) if isinstance(factors, list) else (lambda f: f[0])
        moved = sums(per_example, captured, unwrap(alone))
        norm = torch.stack([t.double().square().sum() for t in moved.values()]).sum().sqrt()
        assert norm <= bound * (1 + 1e-5)
        squares = total_squares(captured.squared_norms())
        if not torch.isfinite(squares[2]):
            assert norm == 0
        _, clean = capture(module, good, per_record)
        rest = sums(per_example, clean, unwrap(_without(clean, bound, clipping)))
        for one, two in zip(sums(per_example, captured, unwrap(others)).values(), rest.values(), strict=True):
            close(one, two)


def _without(captured, bound, clipping):
    factors = clip_factors(captured.squared_norms(), bound, clipping)
    return [f * (torch.arange(6) != 2) for f in (factors if isinstance(factors, list) else [factors])]


@pytest.mark.parametrize("a, g", [(1e-30, 1e18), (2.2e-23, 1e18), (1e18, 1e-30), (1e-40, 1e18), (1e25, 1e-30)])
@pytest.mark.parametrize("positions", [None, 2, 40])
def test_underflow_never_hides_a_norm(a, g, positions):
    module = nn.Linear(8, 8, bias=False)
    x = torch.full((1, 8) if positions is None else (1, positions, 8), a)
    bound = a * g / 100  # far below the true norm, 8 times a times g times positions
    per_example = PerExample(module)
    with per_example:
        captured = per_example.backward((module(x) * g).flatten(1).sum(1))
    factors = clip_factors(captured.squared_norms(), bound)
    norm = sums(per_example, captured, factors)["weight"].double().norm()
    assert norm <= bound * (1 + 1e-5)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e8])
def test_positions_that_cancel_stay_bounded(size):
    torch.manual_seed(0)
    module, half = nn.Linear(200, 200), torch.randn(4, 1, 200) * size
    signs = torch.tensor([1.0, -1.0])[None, :, None] * torch.randn(4, 1, 200)
    per_example = PerExample(module)
    with per_example:
        captured = per_example.backward((module(half.expand(4, 2, 200)) * signs).sum((1, 2)))
    factors = clip_factors(captured.squared_norms(), 1.0)
    for i in range(4):
        one = sums(per_example, captured, factors * (torch.arange(4) == i))
        assert torch.stack([t.double().square().sum() for t in one.values()]).sum().sqrt() <= 1 + 1e-5


@pytest.mark.parametrize("channels", [1, 40])
def test_a_pixel_that_no_patch_reads_does_no_harm(channels):
    torch.manual_seed(0)
    module = nn.Conv2d(channels, channels, 2, stride=3)
    x = torch.randn(3, channels, 6, 6)
    _, clean = capture(module, x)
    x[1, 0, 2, 2] = float("nan")
    per_example, captured = capture(module, x)
    factors = clip_factors(captured.squared_norms(), 1e-3)
    assert all(torch.isfinite(t).all() for t in sums(per_example, captured, factors).values())
    kept = torch.tensor([0, 2])
    close(total_squares(captured.squared_norms())[kept], total_squares(clean.squared_norms())[kept])


@pytest.mark.parametrize("name", ["linear", "linear no bias", "linear gram", "mlp in place", "reused", "conv2d"])
def test_known_squares_of_the_input_change_nothing(name):
    module, x = make(name)
    per_example = PerExample(module)
    per_example.input_squares = row_squares(x.flatten(1))
    with per_example:
        captured = per_example.backward(per_record(module(x)))
    expected = total_squares(capture(module, x)[1].squared_norms())
    torch.testing.assert_close(total_squares(captured.squared_norms()), expected, rtol=0, atol=0)


# ------------------------------------------------------------------ the hooks
def test_hooks_are_removed_after_exceptions():
    module = nn.Sequential(nn.Linear(3, 3), nn.PReLU(), nn.MultiheadAttention(3, 1, batch_first=True))
    per_example = PerExample(module)
    with pytest.raises(KeyError), per_example:
        module[0](torch.zeros(2, 3))
        raise KeyError
    for layer in module.modules():
        assert not layer._forward_hooks and not layer._forward_pre_hooks
        assert "forward" not in vars(layer)
    with per_example:  # and it can be entered again
        pass


def test_entering_twice_is_an_error():
    per_example = PerExample(nn.Linear(2, 2))
    with per_example, pytest.raises(RuntimeError, match="already entered"):
        per_example.__enter__()


def test_nothing_is_kept_outside_the_context():
    module = nn.Linear(3, 2)
    per_example = PerExample(module)
    module(torch.zeros(2, 3))
    with per_example:
        module(torch.zeros(2, 3))
    assert not per_example._sites and not per_example._edges


def test_no_weight_gradient_is_computed():
    module = nn.Linear(3, 2)
    capture(module, torch.randn(4, 3))
    assert module.weight.grad is None and module.bias.grad is None


def test_no_trainable_parameter_is_an_error():
    with pytest.raises(ValueError, match="requires_grad"):
        PerExample(nn.Linear(2, 2).requires_grad_(False))


def test_losses_of_several_outputs_are_summed():
    module, x = nn.Linear(3, 2), torch.randn(4, 3)
    _, one = capture(module, x, lambda out: out.square())
    _, two = capture(module, x, lambda out: out.square().sum(1))
    torch.testing.assert_close(one.squared_norms(), two.squared_norms())


def test_input_changed_in_place_is_an_error():
    module = nn.Linear(3, 3)
    x = torch.randn(4, 3)
    with PerExample(module) as per_example:
        losses = per_record(module(x))
        x.add_(1)
        with pytest.raises(ValueError, match="in place"):
            per_example.backward(losses)


def test_a_layer_that_sees_other_rows_is_an_error():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(3, 3)

        def forward(self, x):
            return self.inner(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    with pytest.raises(ValueError, match=r"'inner'.*first dimension"):
        capture(Folded(), torch.randn(4, 2, 3))


def test_several_passes_in_one_context():
    module, x = make("positions")
    per_example = PerExample(module)
    with per_example:
        both = [per_example.backward(per_record(module(part))) for part in (x[:2], x[2:])]
    expected = total_squares(capture(module, x)[1].squared_norms())
    close(torch.cat([total_squares(c.squared_norms()) for c in both]), expected)


def test_checkpointed_layers_are_captured_once():
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4))

        def forward(self, x):
            return checkpoint(self.inner, x, use_reentrant=False)

    torch.manual_seed(0)
    module, x = Checkpointed(), torch.randn(3, 4)
    truth = one_by_one(module.inner, x)
    per_example, captured = capture(module, x)
    close(total_squares(captured.squared_norms()), sum(t.flatten(1).square().sum(1) for t in truth.values()))


def test_groups_of_tied_parameters_go_to_their_first_owner():
    per_example = PerExample(CASES["tied bias"][0]())
    assert per_example.groups == (("embed.weight",), ("mix.weight", "mix.bias"), ("out.bias",))


def test_the_module_can_be_copied_and_pickled_afterwards():
    module, x = make("positions")
    capture(module, x)
    assert isinstance(copy.deepcopy(module), Positions)


# ------------------------------------------------------------------ against Opacus
OPACUS = [
    "linear",
    "linear written",
    "conv1d",
    "conv2d",
    "conv2d same",
    "conv3d",
    "embedding",
    "layer norm",
    "group norm",
    "instance norm 2d",
    "rms norm",
]


@pytest.mark.parametrize("name", OPACUS)
def test_equals_opacus(name):
    opacus = pytest.importorskip("opacus")
    module, x = make(name)
    per_example, captured = capture(module, x)
    theirs = opacus.GradSampleModule(copy.deepcopy(module), loss_reduction="sum")
    per_record(theirs(x)).sum().backward()
    grads = {n.removeprefix("_module."): p.grad_sample for n, p in theirs.named_parameters()}
    expected = sum(g.flatten(1).square().sum(1) for g in grads.values())
    close(total_squares(captured.squared_norms()), expected)
    for n, total in sums(per_example, captured, torch.arange(6.0)).items():
        close(total, torch.einsum("n,n...->...", torch.arange(6.0), grads[n]))


@pytest.mark.parametrize("width", [100, 2048, 2049, 10_007, 100_000, 1_000_000])
@pytest.mark.parametrize("kind", ["constant", "random", "growing"])
def test_wide_norms_are_not_under_reported(kind, width):
    """Adding a million equal squares one after the other in float32 loses up to 7e-4 of them."""
    torch.manual_seed(0)
    for trial in range(3):
        one = torch.rand(1) + 0.5
        row = {"constant": one.expand(width), "random": torch.randn(width), "growing": torch.linspace(0, 1, width)}
        values = row[kind].expand(2, -1).contiguous()
        true = values.double().square().sum(1)
        norms = {
            "row_squares": row_squares(values),
            "transposed": row_squares(values.t().contiguous().t()),
            "plus": row_squares(values, plus=1.0) - 1,
            "Dense": Dense(0, values).squared_norms(),
            "Outer": Outer((0,), torch.ones(2, 1), values).squared_norms(),
            "Rows": Rows(0, torch.zeros(2, 1, dtype=torch.long), values[:, None]).squared_norms(),
            # Two positions: the sum of two equal outer products has four times the square.
            "Gram": gram_squares(torch.ones(2, 2, 1), values[:, None].expand(-1, 2, -1), False) / 4,
        }
        for name, squares in norms.items():
            assert (squares.double() >= true * (1 - 8e-6)).all(), (name, trial, (1 - squares.double() / true).max())
            assert (squares.double() <= true * (1 + (2e-4 if name == "Gram" else 8e-6))).all(), (name, trial)


def test_wide_gram_is_exact_about_the_bias():
    values = torch.full((1, 2, 5000), 0.7)
    expected = 4 * (5000 * values[0, 0, 0].double() ** 2 + 1)
    squares = gram_squares(torch.ones(1, 2, 1), values, True)
    torch.testing.assert_close(squares.double(), expected[None], rtol=1e-4, atol=0)


@pytest.mark.parametrize("width", [256, 768, 2048, 5000])
def test_gram_norms_of_equal_numbers_are_not_under_reported(width):
    """On both sides at once, where the rounding of the two products adds up."""
    torch.manual_seed(0)
    for _ in range(60):
        a, b = torch.rand(2) + 0.5
        left, right = a.expand(1, 3, width).contiguous(), b.expand(1, 3, width).contiguous()
        true = 9.0 * width**2 * a.double() ** 2 * b.double() ** 2
        assert true * (1 - 2e-6) <= gram_squares(left, right, False).double().item() <= true * (1 + 3e-4)
