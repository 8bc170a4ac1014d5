"""What is computed again is what it was, and is not held until then."""

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from harp.errors import HarpError
from harp.models import MODELS, build
from harp.training.recomputing import pieces, recomputed


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5)

    def forward(self, x, scale=1.0):
        return x + scale * self.drop(self.norm(self.conv(x)).relu())


class Nested(nn.Module):
    """Stages of blocks, as libraries build them, one of which is given more than images."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(Block(), Block()) for _ in range(2))
        self.last = nn.ModuleList([Block()])
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(self.last[0](x, scale=2.0).mean((2, 3)))


def row():
    layers = [layer for _ in range(4) for layer in (nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 36, 3))


def step(model, again):
    """Loss, gradients, statistics afterwards; and how many numbers the graph held."""
    torch.manual_seed(1)
    x, held = torch.rand(2, 4, 6, 6, requires_grad=True), set()

    def pack(value):
        held.add((value.data_ptr(), value.numel()))
        return value

    with recomputed(model, again), saved_tensors_hooks(pack, lambda value: value):
        loss = model(x).square().sum()
        count = sum(n for _, n in held)
        loss.backward()
    grads = [x.grad, *(param.grad for param in model.parameters())]
    return [loss, *grads, *(value.clone() for value in model.state_dict().values())], count


@pytest.mark.parametrize("make", [Nested, row])
def test_numbers_are_as_without_and_fewer_are_held(make):
    torch.manual_seed(0)
    plain, again = make(), make()
    again.load_state_dict(plain.state_dict())
    (expected, much), (made, little) = step(plain, False), step(again, True)
    assert all(torch.equal(one, other) for one, other in zip(made, expected, strict=True))
    assert little < much / 2
    assert not any("forward" in vars(module) for module in again.modules())


def test_what_replaced_a_forward_before_stays():
    model = nn.Sequential(Block(), Block())
    own = model[0].forward
    model[0].forward = own
    with recomputed(model):
        assert model[0].forward is not own
    assert vars(model[0])["forward"] == own
    assert "forward" not in vars(model[1])


def test_blocks_are_the_pieces_and_long_rows_are_cut():
    found = pieces(Nested())
    assert [(type(module), parts) for module, parts in found.items()] == [(Block, 1)] * 5
    assert list(pieces(row()).values()) == [3]


@pytest.mark.parametrize("name", MODELS)
def test_every_network_of_ours_has_pieces(name):
    size = (224, 224) if "imagenet" in name else (8, 8) if name == "digits_cnn" else (32, 32)
    model = build(name, classes=10, channels=1 if name == "digits_cnn" else 3, size=size, width=0.125)
    found = pieces(model)
    inside = sum(p.numel() for module in found for p in module.parameters())
    assert inside > 0.5 * sum(p.numel() for p in model.parameters())


def test_a_network_without_pieces_is_refused():
    with pytest.raises(HarpError, match="recompute: Linear has no modules of several layers"):
        pieces(nn.Linear(2, 2))
