import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm, weight_norm

from harp.copies import copied
from harp.errors import HarpError


class Keeps(nn.Module):
    """Its last feature map stays in an attribute, in a dict that a hook fills, and in an object of its own."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(2, 3), nn.Linear(3, 2)
        self.seen: dict[str, Any] = {}
        self.box = SimpleNamespace(last=None)
        self.layer.register_forward_hook(lambda module, inputs, output: self.seen.update(maps=[output]))

    def forward(self, x):
        self.features = self.layer(x).relu()
        self.box.last = (self.features,)
        return self.head(self.features)


def test_kept_activations_are_copied_without_their_graph():
    model, x = Keeps(), torch.rand(4, 2)
    logits = model(x)
    other = copied(model)
    assert isinstance(other, Keeps)
    assert torch.equal(other.features, model.features)
    assert other.features.grad_fn is None
    assert other.box.last[0] is other.features
    assert model.features.grad_fn is not None
    assert torch.equal(other(x), logits)


@pytest.mark.parametrize("wrap", [weight_norm, spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_computed_weight_of_the_old_forms_is_copied_after_a_forward_pass(wrap):
    model, x = nn.Sequential(wrap(nn.Linear(2, 3))).eval(), torch.rand(4, 2)
    logits = model(x)
    assert torch.equal(copied(model)(x), logits)


def test_tied_tensors_and_modes_are_kept():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Dropout())
    model[1].weight = model[0].weight
    model[2].eval()
    other = copied(model)
    assert other.get_parameter("1.weight") is other.get_parameter("0.weight")
    assert [module.training for module in other.children()] == [True, True, False]


def test_what_cannot_be_copied_is_refused_in_one_sentence():
    model: Any = nn.Linear(2, 2)
    model.lock = threading.Lock()
    with pytest.raises(HarpError, match=r"^Linear cannot be copied \(TypeError: cannot pickle '_thread.lock' object\)"):
        copied(model)


def test_a_lock_beside_a_kept_activation_is_refused_likewise():
    model: Any = Keeps()
    model(torch.rand(1, 2))
    model.lock = threading.Lock()
    with pytest.raises(HarpError, match="Keeps cannot be copied"):
        copied(model)
