import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn

from harp.attacks.hyperplanes import length, straighten, towards
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import affine

NORMS = [math.inf, 2, 1]
ENTRY = st.tuples(st.sampled_from([0.0, 1e-25, 1e-3, -0.3, 0.5, -1.0, 2.0]), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))


def slow(x, w, shift, norm, low=0.0, high=1.0):
    """The least perturbation of one image (lists of floats), entry by entry: by halving, or one after the other."""
    ahead = [math.copysign(1, a * shift) if a and shift else 0 for a in w]
    room = [(high - p if s > 0 else p - low) if s else 0.0 for p, s in zip(x, ahead, strict=True)]
    size, missing = [abs(a) for a in w], abs(shift)
    if norm == 1:
        moved = [0.0] * len(x)
        for i in sorted(range(len(x)), key=lambda i: -size[i]):
            moved[i] = min(room[i], missing / size[i]) if size[i] else 0.0
            missing -= size[i] * moved[i]
    else:

        def at(level):
            return [min(level if norm == math.inf else level * a, r) for a, r in zip(size, room, strict=True)]

        below, above = 0.0, 1e30
        for _ in range(400):
            middle = (below + above) / 2
            enough = sum(a * m for a, m in zip(size, at(middle), strict=True)) >= missing
            below, above = (below, middle) if enough else (middle, above)
        moved = at(above)
    return [m * s for m, s in zip(moved, ahead, strict=True)]


@given(
    st.sampled_from(NORMS),
    st.lists(ENTRY, min_size=1, max_size=6),
    st.sampled_from([-20.0, -1.0, -0.01, 0.0, 0.3, 1.0, 20.0]),
    st.sampled_from([(0.0, 1.0), (-1.0, 2.5)]),
)
def test_towards_is_the_least_perturbation_or_all_there_is(norm, entries, shift, box):
    w, x = (list(column) for column in zip(*entries, strict=True))
    threat = Threat(norm, 0.1, *box)
    expected = torch.tensor([slow(x, w, shift, norm, *box)], dtype=torch.float64)
    for dtype, near in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
        tensors = [torch.tensor([values], dtype=dtype) for values in (x, w)]
        delta = towards(tensors[0], tensors[1], torch.tensor([shift], dtype=dtype), threat)
        assert (tensors[0] + delta).clamp(*box).allclose(tensors[0] + delta, atol=1e-6)
        # Of entries of equal weight the 1-norm may move either, so lengths and what is reached are compared.
        assert length(delta, norm).double().tolist() == pytest.approx(length(expected, norm).tolist(), abs=near)
        reached, best = ((moves.double() @ torch.tensor(w, dtype=torch.float64)).item() for moves in (delta, expected))
        assert reached == pytest.approx(best, abs=near)


@pytest.mark.parametrize("norm", NORMS)
def test_many_entries_reach_the_plane_to_rounding(norm):
    numbers = generator(0, "plane")
    x, w = torch.rand(40, 3072, generator=numbers), torch.randn(40, 3072, generator=numbers)
    x = (3 * x - 1).clamp(0, 1)
    shift = 300 * torch.randn(40, generator=numbers)
    delta = towards(x, w, shift, Threat(norm))
    assert ((delta * w).sum(1) - shift).abs().max() < 1e-3
    assert (x + delta).min() > -1e-6
    assert (x + delta).max() < 1 + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_what_the_plane_is_multiplied_by_does_not_matter(norm):
    numbers = generator(1, "plane")
    x, w, shift = torch.rand(8, 20, generator=numbers), torch.randn(8, 20, generator=numbers), torch.linspace(-3, 3, 8)
    plain = towards(x, w, shift, Threat(norm))
    for scale in (1e-30, 1e-12, 1e20):
        assert torch.allclose(towards(x, scale * w, scale * shift, Threat(norm)), plain, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_no_weights_no_move(norm):
    assert towards(torch.rand(2, 5), torch.zeros(2, 5), torch.tensor([1.0, 0.0]), Threat(norm)).eq(0).all()


@pytest.mark.parametrize("norm", NORMS)
def test_several_images_to_one_plane_are_several_calls(norm):
    numbers = generator(2, "plane")
    x, w = torch.rand(2, 7, 20, generator=numbers), torch.randn(7, 20, generator=numbers)
    shift = torch.randn(2, 7, generator=numbers)
    together = towards(x, w, shift, Threat(norm))
    assert torch.allclose(together, torch.stack([towards(*pair, Threat(norm)) for pair in zip(x, [w, w], shift)]))  # noqa: B905


@pytest.mark.parametrize("norm", NORMS)
def test_linear_logits_have_the_boundary_they_have(norm):
    model, x = affine(4, (1, 3, 3), 0), torch.rand(6, 1, 3, 3, generator=generator(0, "x"), dtype=torch.float64)
    y, aims = torch.tensor([0, 1, 2, 3, 0, 1]), torch.tensor([[1, 2], [0, 3], [3, 0], [1, 0], [2, 3], [3, 2]])
    logits, lead, w = straighten(model, x, y, aims, norm)
    weight, rows = model.get_parameter("1.weight").detach(), torch.arange(6)
    leads = model(x).detach().gather(1, aims) - model(x).detach().gather(1, y[:, None])
    gradients = weight[aims] - weight[y][:, None]
    far = leads.abs() / torch.linalg.vector_norm(gradients, {math.inf: 1, 2: 2, 1: math.inf}[norm], dim=2)
    nearer = far.argmin(1)
    assert torch.equal(logits, model(x).detach())
    assert torch.allclose(lead, leads[rows, nearer])
    assert torch.allclose(w, gradients[rows, nearer])


def test_the_boundary_of_a_confident_network_is_still_the_nearer_one():
    # Gradients of 1e-25: squares that float32 does not know. Class 2 is half as far as class 1.
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    with torch.no_grad():
        model.get_parameter("1.weight").copy_(torch.tensor([[0.0, 0.0], [1e-25, 0.0], [0.0, 2e-25]]))
        model.get_parameter("1.bias").copy_(torch.tensor([1e-25, 0.0, 0.0]))
    _, lead, w = straighten(model, torch.zeros(1, 1, 1, 2), torch.tensor([0]), torch.tensor([[1, 2]]), 2)
    assert w.tolist() == [pytest.approx([0.0, 2e-25])]
    assert lead.tolist() == pytest.approx([-1e-25])


def test_a_network_that_overflows_shows_no_boundary():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model.get_parameter("1.weight").fill_(torch.nan)
    _, lead, w = straighten(model, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), torch.tensor([[1], [0]]), math.inf)
    assert lead.eq(0).all()
    assert w.eq(0).all()
