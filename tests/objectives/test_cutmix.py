"""Boxes and labels by hand; who can learn from two labels; and that all draws are the batch's own."""

import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.errors import HarpError
from harp.objectives import MART, OBJECTIVES, PGDAT, TRADES, CutMix, FastAT, FreeAT, Natural
from harp.objectives.cutmix import mixed
from harp.randomness import generator
from harp.threats import Threat

THREAT = Threat(eps=0.1)
SHARE = st.floats(0, 1, exclude_max=True)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 3))


def batch():
    return torch.rand(4, 3, 4, 4, generator=generator(0, "images")), torch.tensor([0, 1, 2, 1])


def test_a_quarter_in_the_middle():
    x = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    made, left = mixed(x, 0.25, 0.5, 0.5)
    box = torch.tensor([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).float()
    assert torch.equal(made[0, 0], box)
    assert torch.equal(made[1, 0], 1 - box)
    assert left == 0.75


def test_what_would_lie_outside_is_cut_off():
    x = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    made, left = mixed(x, 0.25, 0.0, 0.99)
    assert torch.equal(made[0, 0].nonzero(), torch.tensor([[0, 2], [0, 3]]))
    assert left == 1 - 2 / 16


@given(SHARE, SHARE, SHARE, st.integers(1, 9), st.integers(1, 9))
def test_what_is_left_is_counted(area, down, right, h, w):
    x = torch.stack([torch.zeros(1, h, w), torch.ones(1, h, w)])
    made, left = mixed(x, area, down, right)
    assert (made[0] == 0).float().mean().item() == pytest.approx(left)
    assert 1 - left <= area + 1e-9


def test_the_loss_is_the_mean_by_area():
    model, (x, y), drawn = network(), batch(), torch.rand(4, generator=generator(0, "objective")).tolist()
    loss = next(iter(CutMix(Natural(), 1.0, 3)(model, x, y, generator(0, "objective"))))()
    seen, left = mixed(x, *drawn[1:])
    expected = left * cross_entropy(model(seen), y) + (1 - left) * cross_entropy(model(seen), y.roll(1))
    assert 0 < left < 1
    torch.testing.assert_close(loss, expected)


def test_no_share_is_the_objective_itself():
    model, (x, y) = network(), batch()
    loss = next(iter(CutMix(Natural(), 0.0, 3)(model, x, y, generator(0, "objective"))))()
    assert torch.equal(loss, next(iter(Natural()(model, x, y, generator(0, "other"))))())


@pytest.mark.parametrize(
    "objective", [PGDAT(PGD(steps=2), THREAT), TRADES(PGD(steps=2), THREAT), FreeAT(THREAT, replays=2)]
)
def test_attacked_ones_learn_from_two_labels(objective):
    model, (x, y) = network(), batch()
    mixing = CutMix(objective, 1.0, 3)
    closures = list(mixing(model, x, y, generator(0, "objective")))
    assert len(closures) == mixing.replays == objective.replays
    assert closures[0]().isfinite()


@pytest.mark.parametrize("objective", [MART(PGD(), THREAT), FastAT(THREAT)])
def test_one_that_needs_one_label_is_refused(objective):
    with pytest.raises(HarpError, match=r"cutmix is 0\.5, but \w+ learns from one label an image"):
        CutMix(objective, 0.5, 3)


def test_all_others_can():
    able = {name for name, factory in OBJECTIVES.items() if getattr(factory, "takes_probabilities", False)}
    assert able == set(OBJECTIVES) - {"mart", "fast-at", "pwoa"}
