import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import build
from harp.pruners import Course, L1Filters, Moment, Options
from harp.sparsity import Budget, ChannelUnits, find_sites, find_units


def network():
    """A filter of sum 2 and one of 2-norm 2 but sum 4 among four; the weights that read them order them otherwise."""
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    rows = [[2.0, 0, 0, 0], [1, 1, -1, -1], [0.5, 0, 0, 0], [0, -3, 0, 0]]
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor(rows)[:, :, None, None])
        for channel, size in enumerate([9.0, 0.1, 8.0, 0.2]):
            model.get_parameter("4.weight")[:, 4 * channel : 4 * channel + 4] = size
    return model


def test_the_filters_of_smallest_absolute_sum_go():
    model = network()
    pruner = L1Filters(find_units(model, torch.ones(1, 4, 2, 2), "channels"), Budget(0.5, "macs"))
    pruner.push(Moment(0))
    assert model[4].weight[0].view(4, 4)[:, 0].tolist() == pytest.approx([0, 0.1, 0, 0.2])
    (mask,) = pruner.settle().values()
    assert mask.tolist() == [False, True, False, True]


def test_makers_of_tied_channels_are_summed():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.Conv2d(2, 2, 1, bias=False) for _ in range(2))
            self.last = nn.Linear(2, 2)

        def forward(self, x):
            x = self.first(x)
            return self.last((x + self.second(x.relu())).mean((2, 3)))

    model = Residual()
    with torch.no_grad():
        model.first.weight.copy_(torch.tensor([[1.0, -2], [2, 2]])[:, :, None, None])
        model.second.weight.copy_(torch.tensor([[5.0, 5], [0, -1]])[:, :, None, None])
    units = find_units(model, torch.ones(1, 2, 2, 2), "channels")
    assert isinstance(units, ChannelUnits)
    assert {name: sums.tolist() for name, sums in units.filter_sums().items()} == {"first.weight": [13, 5]}


def test_every_layer_keeps_the_same_share_and_nothing_is_trained():
    torch.manual_seed(0)
    model = build("resnet18", classes=3, channels=1, size=8, width=0.125)
    units = find_units(model, torch.ones(1, 1, 8, 8), "channels")
    masks = L1Filters(units, Budget(0.25, "macs")).settle()
    shares = [masks.counts[name] / size for name, size in zip(units.names, units.sizes, strict=True)]
    assert max(shares) - min(shares) < 2 / min(units.sizes)
    assert L1Filters.steps(Options(), Course(10, 100)) == 0


def test_other_units_are_refused():
    with pytest.raises(HarpError, match="needs granularity channels, not weights"):
        L1Filters(find_sites(network()), Budget(0.5))
