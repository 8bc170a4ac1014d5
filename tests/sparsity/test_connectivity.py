"""Paths by hand, and on networks of every kind: nobody is cut off, and the budget holds."""

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import build
from harp.sparsity import Flow, Masks, connect, find_sites, top_mask


def two_layers():
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))
    return model, find_sites(model), torch.rand(1, 2, 1, 1)


def bits(*rows):
    return torch.tensor(rows).bool()


STRENGTHS = {"1.weight": torch.tensor([[0.5, 0.1], [0.2, 0.8]]), "3.weight": torch.tensor([[0.2, 0.9], [0.6, 0.1]])}
CUT = Masks({"1.weight": bits([1, 1], [0, 1]), "3.weight": bits([0, 1], [0, 0])})


def test_the_second_logit_gets_its_best_path():
    """METHODS 9.8's example."""
    flow = Flow(*two_layers())
    assert (flow.reach({name: mask.double() for name, mask in CUT.items()}) > 0).tolist() == [True, False]
    masks, classes = connect(flow, CUT, STRENGTHS)
    assert classes == [1]
    assert torch.equal(masks["1.weight"], bits([1, 0], [0, 1]))
    assert torch.equal(masks["3.weight"], bits([0, 1], [1, 0]))


def test_where_counts_are_a_layers_own_and_none_can_go_it_is_refused():
    with pytest.raises(HarpError, match="1 classes cannot be reached, and their paths need 1 weights more"):
        connect(Flow(*two_layers()), CUT, STRENGTHS, elsewhere=False)


def test_who_is_reached_stays_as_he_is():
    whole = Masks({"1.weight": bits([1, 0], [0, 1]), "3.weight": bits([1, 0], [0, 1])})
    masks, classes = connect(Flow(*two_layers()), whole, STRENGTHS)
    assert classes == []
    assert all(torch.equal(masks[name], whole[name]) for name in whole)


def test_a_shortcut_leads_on_where_a_layer_does_not():
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Linear(2, 2)

        def forward(self, x):
            return self.last((x + self.first(x).relu()).mean((2, 3)))

    model = Around()
    flow = Flow(model, find_sites(model), torch.rand(1, 2, 4, 4))
    nothing = {"first.weight": torch.zeros(2, 2, 3, 3).double(), "last.weight": torch.eye(2).double()}
    assert bool((flow.reach(nothing) > 0).all())


@pytest.mark.parametrize("name", ["cifar_cnn", "vgg16_bn", "resnet18", "preact_resnet18"])
def test_networks_cut_to_almost_nothing_are_connected_again(name):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32, width=0.125)
    sites = find_sites(model)
    strengths = {site.name: torch.rand(site.param.shape) for site in sites}
    masks = Masks({site.name: top_mask(strengths[site.name], max(4, site.size // 500)) for site in sites})
    flow = Flow(model, sites, torch.rand(1, 3, 32, 32))
    before = flow.reach({key: mask.double() for key, mask in masks.items()})
    assert not bool((before > 0).all())
    made, classes = connect(flow, masks, strengths)
    assert classes == (before <= 0).nonzero().flatten().tolist()
    assert bool((flow.reach({key: mask.double() for key, mask in made.items()}) > 0).all())
    assert made.kept == masks.kept


def test_a_network_that_cannot_be_followed_is_refused():
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return self.last(x.flatten(1)) * torch.tensor([1.0, 0.0])

    model = Deaf()
    with pytest.raises(HarpError, match="connect: not every logit of Deaf can be reached"):
        Flow(model, find_sites(model), torch.rand(1, 2, 1, 1))
