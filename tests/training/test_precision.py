import pytest
import torch
import torch._inductor.config as inductor
from torch import nn

from harp.attacks import PGD
from harp.data import Images, Resident
from harp.errors import HarpError
from harp.modes import evaluating
from harp.objectives import PGDAT
from harp.pruners import Pruner
from harp.sparsity import find_sites
from harp.threats import Threat
from harp.training import SCHEDULES, Precision, fit, sgd


class Watched(nn.Module):
    """A linear network that remembers how each of its forwards was computed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)
        self.seen = []

    def forward(self, x):
        logits = self.linear(x.flatten(1))
        self.seen.append((self.training, logits.dtype))
        return logits


def data(seed=0):
    images = torch.rand(16, 1, 2, 2, generator=torch.Generator().manual_seed(seed))
    return Resident(Images(images, torch.arange(16) % 3), 4, seed=0, device="cpu")


def train(model, precision, until=4, start=0, optimizer=None):
    pruner = Pruner(find_sites(model))
    optimizer = optimizer or sgd(model, pruner, lr=0.5)
    objective = PGDAT(PGD(steps=2), Threat(eps=0.1))
    fit(
        model,
        data(),
        objective=objective,
        optimizer=optimizer,
        pruner=pruner,
        until=until,
        start=start,
        schedule=SCHEDULES["constant"],
        precision=precision,
    )
    return optimizer


@pytest.mark.parametrize("bf16", ["none", "attack", "step", "both"])
def test_the_attack_and_the_step_compute_as_asked(bf16):
    model = Watched()
    train(model, Precision(bf16=bf16), until=1)
    attack = torch.bfloat16 if bf16 in ("attack", "both") else torch.float32
    step = torch.bfloat16 if bf16 in ("step", "both") else torch.float32
    asked_for_its_classes = (False, torch.float32)
    assert model.seen == [asked_for_its_classes] + [(False, attack)] * 2 + [(True, step)]
    assert model.linear.weight.grad is not None
    assert model.linear.weight.dtype is model.linear.weight.grad.dtype is torch.float32


def test_logits_are_float32_of_the_bfloat16_ones_and_the_model_itself_stays_float32():
    model = Watched()
    view, x = Precision(bf16="both").view(model), torch.rand(2, 1, 2, 2)
    assert torch.equal(view(x), model.linear.bfloat16()(x.flatten(1).bfloat16()).float())
    assert model.float()(x).dtype is torch.float32


def test_a_weight_changed_between_forwards_is_seen_at_once():
    model = Watched()
    view, x = Precision(bf16="both").view(model), torch.ones(1, 1, 2, 2)
    before = view(x)
    with torch.no_grad():
        model.linear.weight.mul_(2)
        model.linear.bias.mul_(2)
    assert torch.equal(view(x), 2 * before)


def test_the_default_is_the_model_itself():
    model = Watched()
    assert Precision().view(model) is model
    assert Precision(channels_last=True).view(model) is model


def test_attacking_the_view_restores_its_mode_and_the_models():
    model = Watched()
    view = Precision(bf16="attack").view(model)
    with evaluating(view):
        assert not any(module.training for module in view.modules())
    assert view.training
    assert model.linear.training


def test_channels_last_changes_strides_and_no_value():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten())
    names, weight = list(model.state_dict()), model.get_parameter("0.weight")
    before = weight.detach().clone()
    precision = Precision(channels_last=True)
    assert precision.lay_out(model) is model
    assert list(model.state_dict()) == names
    assert model[0].weight is weight
    assert torch.equal(weight, before)
    assert weight.stride() == (18, 1, 6, 2)
    assert model[0](torch.rand(2, 2, 4, 4)).stride() == (12, 1, 6, 3)


def test_a_parameter_of_five_axes_has_no_such_layout():
    with pytest.raises(HarpError, match="weight has five axes"):
        Precision(channels_last=True).lay_out(nn.Conv3d(1, 1, 1))


@pytest.mark.slow
def test_compiled_training_is_repeated_by_one_that_stopped_half_way_and_leaves_a_plain_model():
    whole, halves, plain = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh()) for _ in range(3))
    halves.load_state_dict(whole.state_dict())
    precision = Precision(compile=True)
    train(whole, precision, until=4)
    train(halves, precision, until=4, start=2, optimizer=train(halves, precision, until=2))
    assert list(whole.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(value, halves.state_dict()[name]) for name, value in whole.state_dict().items())
    assert type(whole) is nn.Sequential
    assert whole._compiled_call_impl is None


def test_compiling_without_a_compiler_is_one_clear_error(monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    monkeypatch.setattr(inductor, "force_disable_caches", True)
    view = Precision(compile=True).view(nn.Sequential(nn.Linear(4, 3), nn.Tanh()))
    with pytest.raises(HarpError, match=r"set compile to false: .*No working C\+\+ compiler"):
        view(torch.rand(2, 4))


def test_a_network_that_is_not_one_graph_is_refused_by_name_of_the_setting():
    class Talking(nn.Module):
        def forward(self, x):
            torch._dynamo.graph_break()
            return x

    with pytest.raises(HarpError, match="could not compile the network; set compile to false"):
        Precision(compile=True).view(Talking())(torch.rand(2, 4))
