import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Li20, Li20Options, Moment
from harp.pruners.li20 import FadingBiases
from harp.sparsity import Budget, Masks, find_sites, find_units


def network():
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(3, 1))
    with torch.no_grad():
        model.get_parameter("0.weight").copy_(torch.tensor([[0.1, -0.3]]))
        model.get_parameter("1.weight").copy_(torch.tensor([[1.0, 2.0, -3.0]]))
    return model


def test_weights_are_ranked_over_their_layers_mean():
    """Normalised (.5, 1.5) and (.5, 1, 1.5): raw magnitude would keep the second layer's two largest."""
    model = network()
    pruner = Li20(find_sites(model), Budget(0.4, floor=0.0))
    pruner.push(Moment(0))
    masks = pruner.settle()
    assert [mask.int().tolist() for mask in masks.values()] == [[[0, 1]], [[0, 0, 1]]]
    assert model.get_parameter("1.weight")[0].tolist() == [0, 0, -3]


def test_it_cuts_at_once_and_meets_the_budget():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.Linear(30, 5))
    assert Li20(find_sites(model), Budget(0.1)).settle().kept == round(0.1 * 750)
    assert Li20.steps(Li20Options(), Course(10, 100)) == 0


def test_published_biases_shrink_by_their_rows_share_each_step_and_repaired_ones_stay():
    """METHODS 2.12: at a density of .1 five steps leave 1e-5 of a bias."""
    mask = torch.zeros(2, 10, dtype=torch.bool)
    mask[0, 3] = mask[1, :5] = True
    for form, left in (("published", [1e-5, 2 * 0.5**5]), ("repaired", [1, 2])):
        tuned = Li20.tuned(Li20Options(form=form))
        model = nn.Linear(10, 2)
        with torch.no_grad():
            model.bias.copy_(torch.tensor([1.0, 2.0]))
        pruner = tuned(find_sites(model), Masks({"weight": mask}))
        for step in range(6):  # the first before any step was made
            pruner.push(Moment(step))
        assert model.bias.tolist() == pytest.approx(left)
        pruner.push(Moment(5))  # a resumed stage begins with its last step once more
        assert model.bias.tolist() == pytest.approx(left)
        other = tuned(find_sites(model), Masks({"weight": mask}))
        other.load_state_dict(pruner.state_dict())
        other.push(Moment(5))
        assert model.bias.tolist() == pytest.approx(left)


def test_an_allocation_shares_out_what_the_one_ranking_would():
    """As many of both layers' weights, the largest of each, which by their layers' means are not the largest of all."""
    model = network()
    pruner = Li20(find_sites(model), Budget(0.6, floor=0.0), options=Li20Options(allocation="uniform"))
    assert [mask.int().tolist() for mask in pruner.settle().values()] == [[[0, 1]], [[0, 1, 1]]]


def test_rows_that_the_published_form_cannot_have_are_refused():
    model = nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2))
    masks = Masks({"0.weight": torch.ones(4, 2, 3, 3, dtype=torch.bool)})
    with pytest.raises(HarpError, match=r"0\.weight has 2 rows and 4 biases"):
        FadingBiases(find_sites(model), masks)
    small = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    units = find_units(small, torch.ones(1, 4), "channels")
    with pytest.raises(HarpError, match="channels leave none"):
        Li20(units, Budget(0.5), options=Li20Options(form="published"))
