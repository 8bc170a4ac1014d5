import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, remove_spectral_norm, spectral_norm, weight_norm

from harp.models import plain
from harp.sparsity import find_sites

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

FORMS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight norm": weight_norm,
    "old spectral norm": spectral_norm,
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "pruned twice": lambda layer: prune.random_unstructured(prune.l1_unstructured(layer, "weight", 0.5), "weight", 0.5),
}


def net(wrap):
    torch.manual_seed(0)
    layers = [wrap(nn.Conv2d(2, 4, 3)), nn.ReLU(), wrap(nn.Conv2d(4, 4, 2, groups=2)), nn.Flatten()]
    return nn.Sequential(*layers, wrap(nn.Linear(4, 3)))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_computed_becomes_a_parameter_and_the_logits_stay(form):
    model, x = net(FORMS[form]), torch.rand(5, 2, 4, 4)
    model(x)  # in train mode: the older forms now keep a weight with its graph
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = plain(model)
    assert [site.name for site in find_sites(made)] == ["0.weight", "2.weight", "4.weight"]
    assert list(made.state_dict()) == [f"{i}.{name}" for i in (0, 2, 4) for name in ("bias", "weight")]
    made.load_state_dict(made.state_dict())
    assert torch.equal(made.eval()(x), model.eval()(x))
    assert type(made.get_submodule("0")) is nn.Conv2d
    assert made.get_parameter("0.weight").requires_grad
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert plain(made) is made


def test_a_network_without_computed_weights_is_given_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert plain(model) is model


@pytest.mark.parametrize("form", ["weight norm", "old weight norm", "pruned"])
def test_what_was_frozen_stays_frozen(form):
    model = net(FORMS[form])
    model[2].requires_grad_(False)
    assert [plain(model).get_parameter(f"{i}.weight").requires_grad for i in (0, 2, 4)] == [True, False, True]


class Half(nn.Module):
    def forward(self, value):
        return value / 2


def test_a_tied_original_and_a_parametrised_buffer():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    model[1].weight = model[0].weight
    parametrize.register_parametrization(model[0], "weight", Half())
    parametrize.register_parametrization(model[2], "running_mean", Half())
    made = plain(model)
    assert torch.equal(made.get_parameter("0.weight"), made.get_parameter("1.weight") / 2)
    buffers = [name for name, _ in made.get_submodule("2").named_buffers()]
    assert buffers == ["running_var", "num_batches_tracked", "running_mean"]


def test_what_a_removed_spectral_norm_leaves_behind_goes():
    model = nn.Sequential(spectral_norm(nn.Linear(2, 2)))
    remove_spectral_norm(model[0])
    made = plain(model)
    made.load_state_dict(made.state_dict())
    assert torch.equal(made.get_parameter("0.weight"), model.get_parameter("0.weight"))
