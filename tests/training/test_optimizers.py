import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Harp, HarpOptions, Hydra, Masked, Pruner, RatesOnly, Role
from harp.sparsity import Budget, Masks, find_sites
from harp.training import adamw, sgd
from harp.training.optimizers import set_lr

ROLES = {
    "dense": {"norms": {"1.weight", "1.bias"}, "others": {"0.weight", "0.bias", "4.weight", "4.bias"}},
    "masked": {"weights": {"0.weight", "4.weight"}, "norms": {"1.weight", "1.bias"}, "others": {"0.bias", "4.bias"}},
    "harp": {"scores": {"score", "score of 4"}, "rates": {"rate"}, "norms": {"1.weight", "1.bias"}},
    "hydra": {"scores": {"score", "score of 4"}, "norms": {"1.weight", "1.bias"}},
}


def network():
    return nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))


def pruner_of(name, model):
    sites = find_sites(model)
    if name == "dense":
        return Pruner()
    if name == "masked":
        return Masked(sites, Masks({site.name: torch.ones_like(site.param, dtype=torch.bool) for site in sites}))
    return Harp(sites, Budget(0.5), course=Course(10)) if name == "harp" else Hydra(sites, Budget(0.5))


def named(model, pruner):
    """id of every parameter -> its name in `ROLES`."""
    names = {id(param): name for name, param in model.named_parameters()}
    roles = {name: role.params for name, role in pruner.trainables().items()}
    scores = zip(roles.get("scores", []), ("score", "score of 4"), strict=False)
    return {**names, **{id(p): name for p, name in scores}, **{id(p): "rate" for p in roles.get("rates", [])}}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_each_role_is_a_group(name):
    model = network()
    pruner = pruner_of(name, model)
    names = named(model, pruner)
    groups = sgd(model, pruner, lr=0.1).param_groups
    found = {group["role"]: [names[id(param)] for param in group["params"]] for group in groups}
    assert {role: set(params) for role, params in found.items()} == ROLES[name]
    assert all(len(params) == len(set(params)) for params in found.values())
    assert len(found) == len(groups)


def test_harp_leaves_weights_and_biases_as_they_are():
    model = network()
    pruner = pruner_of("harp", model)
    optimizer = sgd(model, pruner, lr=0.1)
    trained = {id(param) for group in optimizer.param_groups for param in group["params"]}
    frozen = [model[0].weight, model[0].bias, model[4].weight, model[4].bias]
    assert not trained & {id(param) for param in frozen}


@pytest.mark.parametrize("name", sorted(ROLES))
def test_settings_reach_every_group(name):
    model = network()
    optimizer = sgd(model, pruner_of(name, model), lr=0.3, momentum=0.8, weight_decay=0.02)
    for group in optimizer.param_groups:
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.3, 0.8, 0.02)


@pytest.mark.parametrize(("wanted", "decay"), [(None, 0.02), (0.0, 0.0), (0.1, 0.1)])
def test_the_decay_of_rates_is_theirs_alone(wanted, decay):
    model = network()
    options = HarpOptions(rate_weight_decay=wanted)
    pruner = Harp(find_sites(model), Budget(0.5), options=options, course=Course(10))
    optimizer = sgd(model, pruner, lr=0.1, weight_decay=0.02)
    decays = {group["role"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {"scores": 0.02, "rates": decay, "norms": 0.02}


@pytest.mark.parametrize("kind", [Harp, RatesOnly])
@pytest.mark.parametrize(("wanted", "decay"), [(None, 0.0), (0.0, 0.0), (0.1, 0.1)])
def test_in_mode_exact_rates_have_none_unless_asked_for(kind, wanted, decay):
    model = network()
    options = HarpOptions(mode="exact", rate_weight_decay=wanted)
    pruner = kind(find_sites(model), Budget(0.5), options=options, course=Course(10, 20))
    optimizer = sgd(model, pruner, lr=0.1, weight_decay=0.02)
    decays = {group["role"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays.pop("rates") == decay
    assert set(decays.values()) == {0.02}


def test_a_pruner_of_another_network_is_refused():
    model = network()
    for pruner in (pruner_of("harp", network()), pruner_of("masked", network())):
        with pytest.raises(HarpError, match=r"^0\.weight of the \w+ is no parameter of this Sequential"):
            sgd(model, pruner, lr=0.1)


def test_a_role_may_have_a_learning_rate_and_a_decay_of_its_own():
    class Slow(Pruner):
        def trainables(self):
            return {"weights": Role([site.param for site in self.sites], weight_decay=0.0, lr=0.5)}

    model = network()
    for make in (sgd, adamw):
        groups = {group["role"]: group for group in make(model, Slow(find_sites(model)), lr=0.1).param_groups}
        assert (groups["weights"]["lr"], groups["weights"]["weight_decay"]) == (0.05, 0.0)
        assert (groups["norms"]["lr"], groups["norms"]["weight_decay"]) == (0.1, 5e-4)


@pytest.mark.parametrize(("wanted", "roles"), [("all", {"weights", "norms", "others"}), ("none", {"weights"})])
def test_a_method_says_what_trains_beside_it(wanted, roles):
    model = network()
    pruner = Pruner(find_sites(model))
    pruner.companions = wanted
    assert {group["role"] for group in sgd(model, pruner, lr=0.1).param_groups} == roles


def test_adamw_decays_apart_from_the_gradient():
    weight = nn.Parameter(torch.ones(1, 1))
    model = nn.Linear(1, 1, bias=False)
    model.weight = weight
    optimizer = adamw(model, Pruner(find_sites(model)), lr=0.1, momentum=0.8, weight_decay=0.5)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.999)
    weight.grad = torch.zeros(1, 1)
    optimizer.step()
    assert float(weight.detach()) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "norm", [nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4, affine=True), nn.RMSNorm(4)]
)
def test_normalisation_of_every_kind_trains_beside_the_scores(norm):
    model = nn.Sequential(nn.Linear(4, 4), norm)
    pruner = Harp(find_sites(model), Budget(0.5), course=Course(1))
    groups = {group["role"]: group["params"] for group in sgd(model, pruner, lr=0.1).param_groups}
    assert {id(param) for param in groups["norms"]} == {id(param) for param in norm.parameters()}


def test_the_factor_is_on_the_first_learning_rate_of_each_group():
    weight, bias = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([{"params": [weight], "lr": 0.1}, {"params": [bias], "lr": 0.01}])
    for factor in (0.5, 0.25, 1.0):
        set_lr(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1 * factor, 0.01 * factor])


def test_the_first_learning_rate_survives_a_checkpoint():
    def make():
        return torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)

    first, second = make(), make()
    set_lr(first, 0.5)
    second.load_state_dict(first.state_dict())
    set_lr(second, 1.0)
    assert second.param_groups[0]["lr"] == 0.1
