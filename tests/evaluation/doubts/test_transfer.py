"""Images made against one network, judged by another."""

import pytest
import torch
from torch import nn

import harp
from harp.errors import HarpError
from harp.evaluation import Transferred
from tests.attacks.linear import WEIGHTS, images, labels, linear, margins

X, Y = images(40), labels(40)
THREAT = harp.Threat(eps=0.1)


class Blind(nn.Module):
    """A network that fails where a gradient is asked for."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        assert not (torch.is_grad_enabled() and x.requires_grad)
        return self.model(x)


@pytest.mark.parametrize("other", [WEIGHTS, (1.0, -1.0, 1.0, 1.0), (1.0, -1.0, -1.0, 1.0)])
def test_between_linear_networks_the_margin_falls_by_eps_times_what_the_signs_have_in_common(other):
    model, source = linear(), linear(other)
    common = float((torch.tensor(WEIGHTS) * torch.tensor(other).sign()).sum())
    adv = Transferred(source, 20)(Blind(model), X, Y, THREAT)
    assert THREAT.excess(adv, X).max() <= 1e-6
    fell = margins(model, X, Y) - margins(model, adv, Y)
    assert torch.allclose(fell, torch.full((40,), 0.1 * common), atol=1e-5)


def test_a_row_of_an_evaluation_by_images_of_another_network():
    model, source = linear(), linear((1.0, -1.0, 1.0, 1.0))
    found = harp.evaluate(Blind(model), [(X, Y)], {"transfer-other": Transferred(source, 20, "other")}, THREAT)
    right = margins(model, X, Y) > 0
    held = right & (margins(model, X, Y) - 0.1 * 3.25 > 0)
    assert found.flags["transfer-other"].tolist() == held.tolist()
    assert found.flags["worst"].tolist() == held.tolist()
    assert 0 < int(held.sum()) < int(right.sum())


def test_a_record_of_images_of_one_network_is_not_anothers(tmp_path):
    model = linear()
    attacks = [{"transfer-other": Transferred(linear(weights), 20, "other")} for weights in (WEIGHTS, (1.0, 1, 1, 1))]
    harp.evaluate(model, [(X, Y)], attacks[0], THREAT, folder=tmp_path)
    harp.evaluate(model, [(X, Y)], attacks[0], THREAT, folder=tmp_path)
    with pytest.raises(HarpError, match="record of another model"):
        harp.evaluate(model, [(X, Y)], attacks[1], THREAT, folder=tmp_path)


def test_the_other_network_keeps_its_modes_and_parameters():
    source = linear().train()
    Transferred(source, 3)(linear(), X, Y, THREAT)
    assert source.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in source.parameters())
