import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from transformers.pytorch_utils import Conv1D

from harp.errors import HarpError
from harp.sparsity import checked, find_frozen, find_sites, find_weights


def names(model, include=(), exclude=()):
    return [site.name for site in find_sites(model, include, exclude)]


def test_convolutions_and_linear_layers_are_sites_and_nothing_else_is():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.LayerNorm(2))
    sites = find_sites(model)
    assert [site.name for site in sites] == ["0.weight", "3.weight"]
    assert [site.size for site in sites] == [108, 8]
    assert sites[0].param is model[0].weight


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(2, 3, 1),
        nn.Conv2d(2, 3, 1),
        nn.Conv3d(2, 3, 1),
        nn.Linear(2, 3),
        nn.ConvTranspose1d(2, 3, 1),
        nn.ConvTranspose2d(2, 3, 1),
        nn.ConvTranspose3d(2, 3, 1),
        Conv1D(3, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_axes_of_outputs_and_inputs(layer):
    (site,) = find_sites(layer)
    assert site.name == "weight"
    assert site.param.shape[site.out_axis] == 3
    assert site.param.shape[site.in_axis] == 2


def test_a_grouped_layer_holds_one_groups_channels_on_its_inner_axis():
    (forward,), (backward,) = (
        find_sites(nn.Conv2d(4, 6, 1, groups=2)),
        find_sites(nn.ConvTranspose2d(4, 6, 1, groups=2)),
    )
    assert [forward.param.shape[axis] for axis in (forward.out_axis, forward.in_axis)] == [6, 2]
    assert [backward.param.shape[axis] for axis in (backward.out_axis, backward.in_axis)] == [3, 4]


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix_weight = nn.Parameter(torch.ones(2, 3))
        self.bias_table = nn.Parameter(torch.ones(2, 3))
        self.weight = nn.Parameter(torch.ones(3))


def test_a_weight_is_known_by_its_name_and_axes_whatever_its_class():
    assert names(nn.MultiheadAttention(4, 2)) == ["in_proj_weight", "out_proj.weight"]
    apart = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
    assert names(apart) == ["q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"]
    assert names(Own()) == ["mix_weight"]


class ForeignGRN(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 1, 1, 4))


class PatchEmbedding(nn.Conv2d):
    pass


def test_embeddings_and_normalisation_layers_are_not_pruned_however_many_axes_they_have():
    around = [nn.LayerNorm([2, 3, 3]), nn.Embedding(5, 2), nn.EmbeddingBag(5, 2), ForeignGRN()]
    assert names(nn.Sequential(*around, PatchEmbedding(3, 2, 1))) == ["4.weight"]


def test_names_are_those_of_the_state_dictionary():
    model = nn.ModuleDict({"stem": nn.Conv2d(1, 2, 1), "body": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))})
    assert names(model) == ["stem.weight", "body.0.weight", "body.1.weight"]
    state = model.state_dict(keep_vars=True)
    assert all(state[site.name] is site.param for site in find_sites(model))


def tied():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    return model


def test_a_tied_weight_is_one_site():
    assert names(tied()) == ["0.weight", "2.weight"]


def test_a_tied_weight_answers_to_each_of_its_names():
    assert names(tied(), include=["1"]) == ["0.weight"]
    assert names(tied(), exclude=["1.weight"]) == ["2.weight"]


def test_a_module_used_twice_is_one_site():
    layer = nn.Linear(2, 2)
    assert names(nn.Sequential(layer, nn.ReLU(), layer)) == ["0.weight"]


def test_nothing_to_prune_is_a_mistake():
    with pytest.raises(HarpError, match="BatchNorm1d has no weight to prune"):
        find_sites(nn.BatchNorm1d(3))


def computed(change):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    change(model[1])
    return model


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: parametrize.register_parametrization(layer, "weight", Double()),
        parametrizations.weight_norm,
        weight_norm,
        spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 1),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_computed_weight_is_refused_unless_it_is_excluded(change):
    model = computed(change)
    with pytest.raises(HarpError, match=r"^1\.weight is parametrised"):
        find_sites(model)
    assert names(model, exclude=["1"]) == ["0.weight"]


def test_a_parametrised_bias_or_scale_is_nobodys_business():
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    parametrize.register_parametrization(model[0], "bias", Double())
    parametrize.register_parametrization(model[1], "weight", Double())
    assert names(model) == ["0.weight"]


@pytest.mark.parametrize("layer", [nn.LazyLinear(2), nn.LazyConv2d(2, 1), nn.LazyConvTranspose2d(2, 1)])
def test_a_weight_that_is_not_there_yet_is_refused(layer):
    with pytest.raises(HarpError, match=r"0\.weight is not initialised yet"):
        find_sites(nn.Sequential(layer, nn.LazyBatchNorm2d()))


def test_finding_sites_changes_nothing():
    model = nn.Linear(2, 2)
    before = model.weight.detach().clone()
    find_sites(model)
    assert torch.equal(model.weight, before)
    assert model.weight.grad is None


def test_every_site_knows_its_place():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ConvTranspose2d(2, 1, 3))
    assert all(site.place is not None and site.place.holds(site.param) for site in find_sites(model))


def test_what_is_no_site_is_refused():
    model = nn.Linear(2, 2)
    sites = find_sites(model)
    assert checked(sites) == checked(list(sites)) == checked(iter(sites)) == sites
    assert checked(()) == ()
    with pytest.raises(HarpError, match=r"expected the sites of a network, got the Linear itself; harp\.find_sites"):
        checked(model)
    for strange in (3, None, [model.weight], "weight"):
        with pytest.raises(HarpError, match=r"expected sites as harp\.find_sites"):
            checked(strange)


def frozen(*layers):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2))
    for layer in layers:
        model[layer].requires_grad_(False)
    return model


def test_a_frozen_weight_is_no_site_unless_it_is_named_in_full():
    assert names(frozen(0)) == ["1.weight", "2.weight"]
    assert names(frozen(0), include=["0", "2"]) == ["0.weight", "2.weight"]
    assert names(frozen(0), include=["0.weight"]) == ["0.weight"]
    assert names(frozen(0), include=["?"]) == names(frozen(0), include=["class:Linear"]) == ["1.weight", "2.weight"]
    assert names(nn.Sequential(frozen(0)), include=["0"]) == ["0.1.weight", "0.2.weight"]


def test_the_frozen_ones_are_told():
    assert find_frozen(frozen(0, 2)) == ("0.weight", "2.weight")
    assert find_frozen(frozen(0, 2), ["0", "1"], ["2"]) == ()
    assert find_frozen(frozen(0, 2), exclude=["2"]) == ("0.weight",)


def test_an_all_frozen_network_is_refused_in_one_sentence():
    with pytest.raises(HarpError, match=r"^no weight of Sequential may be pruned: all 3 that are selected are frozen"):
        find_sites(frozen(0, 1, 2))
    with pytest.raises(HarpError, match=r"all 1 that are selected .*, or name them in full \(include '0"):
        find_sites(frozen(0), include=["re:^0"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_weight_is_a_weight():
    assert [site.name for site in find_weights(frozen(0, 1, 2))] == ["0.weight", "1.weight", "2.weight"]
    assert find_weights(nn.BatchNorm1d(3)) == ()
    assert [site.name for site in find_weights(computed(weight_norm))] == ["0.weight"]


def test_a_module_of_two_names_answers_to_both():
    layer = nn.Linear(2, 2)
    model = nn.ModuleDict({"a": layer, "b": nn.Sequential(layer, nn.Linear(2, 2))})
    assert names(model) == ["a.weight", "b.1.weight"]
    assert names(model, include=["b.0"]) == ["a.weight"]


def test_looking_for_sites_does_not_turn_spectral_norms_vectors():
    model = nn.Sequential(nn.Linear(3, 3), parametrizations.spectral_norm(nn.Linear(3, 3))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert names(model, exclude=["1"]) == ["0.weight"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
