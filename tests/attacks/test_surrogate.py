import copy
import gc
import weakref

import pytest
import torch
from torch import nn

from harp.attacks import ATTACKS, Offered, surrogate
from harp.attacks.surrogate import Copies, Quick, Surrogate, judge
from harp.models import build
from harp.randomness import Keyed, generator
from harp.threats import Threat

X = torch.rand(4, 3, 32, 32, generator=generator(0, "x"))


def network(name="cifar_cnn"):
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32)
    model(X)  # batch norm statistics other than those it begins with
    return model


@pytest.mark.parametrize("name", ["cifar_cnn", "resnet18", "vgg16_bn"])
def test_a_surrogate_has_the_logits_of_its_original_and_no_batch_norm(name):
    model = network(name).eval()
    quick = Surrogate(model, X)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in quick.quick.modules())
    assert quick.blind is not None
    for x in (X, X[:1], X.repeat(5, 1, 1, 1)):
        with torch.no_grad():
            assert torch.allclose(quick(x), model(x), atol=1e-5, rtol=1e-4)
        slopes = []
        for net in (quick, model):
            image = x.clone().requires_grad_()
            slopes.append(torch.autograd.grad(net(image).square().sum(), image)[0])
        assert (slopes[0] - slopes[1]).norm() <= 0.1 * slopes[1].norm()
    assert judge(quick) is model
    assert judge(model) is model


def test_the_original_keeps_modes_and_gradients():
    model = network()
    before = copy.deepcopy(model.state_dict())
    quick = Surrogate(model, X).eval()
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert not any(p.requires_grad for p in quick.quick.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Branching(nn.Module):
    """No tracer follows it: what it does depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x) if x.mean() > 0.25 else self.inner(1 - x)


def test_a_network_that_cannot_be_traced_is_copied_whole():
    model = Branching().eval()
    quick = Surrogate(model, X)
    assert any(isinstance(module, nn.BatchNorm2d) for module in quick.quick.modules())
    for x in (X, X / 8):
        assert torch.allclose(quick(x), model(x), atol=1e-5)


class Remembering(nn.Module):
    """What a trace would make of it holds for one batch size."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x.reshape(int(x.shape[0]), *map(int, x.shape[1:]))) * float(len(x))


def test_a_graph_that_remembers_its_batch_is_not_used():
    quick = Surrogate(Remembering().eval(), X)
    assert quick.blind is None


class Tangled(nn.Module):
    """A ReLU whose input is needed again: in place it would change the answer."""

    def __init__(self):
        super().__init__()
        self.first, self.relu, self.last = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 10)

    def forward(self, x):
        kept = self.first(x)
        return self.last((self.relu(kept) + kept).mean((2, 3)))


def test_a_relu_that_cannot_work_in_place_does_not():
    torch.manual_seed(0)
    model = Tangled().eval()
    quick = Surrogate(model, X)
    relu = quick.quick.get_submodule("relu")
    assert isinstance(relu, nn.ReLU)
    assert not relu.inplace
    assert torch.allclose(quick(X), model(X), atol=1e-6)


def test_bfloat16_is_near_and_comes_back_as_float32():
    model = network().eval()
    logits = Surrogate(model, X, bf16=True)(X)
    assert logits.dtype == torch.float32
    assert 0 < (logits - model(X)).abs().max() < 0.1 * model(X).abs().max()


class Rough(nn.Module):
    """Adds noise to its logits, and cannot be copied."""

    def __init__(self, copies: bool):
        super().__init__()
        self.inner, self.copies = network(), copies

    def __deepcopy__(self, memo):
        if not self.copies:
            raise RuntimeError("no copies")
        return Rough(True)

    def forward(self, x):
        return self.inner(x) + torch.rand(1)


@pytest.mark.parametrize("copies", [True, False])
def test_a_network_without_a_true_copy_computes_itself(copies):
    model = Rough(copies)
    assert Surrogate(model, X).quick is model


def test_a_quick_attack_finds_what_the_attack_finds():
    model, y = network().eval(), torch.arange(4)
    threat, attack = Threat(eps=4 / 255), ATTACKS["pgd"](steps=3)
    noise = Keyed.of(torch.arange(4), 0, "test")
    assert torch.allclose(Quick(attack)(model, X, y, threat, noise), attack(model, X, y, threat, noise), atol=1e-3)


def test_copies_are_made_once_for_a_network_and_anew_for_another(monkeypatch):
    made, real = [], surrogate._quick

    def noted(model, example):
        made.append(model)
        return real(model, example)

    monkeypatch.setattr(surrogate, "_quick", noted)
    first, second, y, threat = network("cifar_cnn"), network("cifar_cnn"), torch.arange(4), Threat(eps=4 / 255)
    quick, noise = Quick(ATTACKS["fgsm"]()), generator(0, "test")
    for model in (first, first, second, second):
        quick(model, X, y, threat, noise)
    assert made == [first, second]
    with torch.no_grad():
        next(second.parameters()).mul_(2)
    alone = Quick(ATTACKS["fgsm"]())(second, X, y, threat, noise)
    assert torch.equal(quick(second, X, y, threat, noise), alone)
    quick(second, X[:2, :, :16, :16], y[:2], threat, noise)
    assert made == [first, second, second, second, second]


def test_nothing_of_a_network_that_is_gone_stays():
    model = network("cifar_cnn")
    gone, quick = weakref.ref(model), Quick(ATTACKS["fgsm"]())
    quick(model, X, torch.arange(4), Threat(eps=4 / 255), generator(0, "test"))
    del model
    gc.collect()
    assert gone() is None


def test_copies_that_are_offered_are_taken_where_they_agree_with_the_network():
    model, halved = network().eval(), network().eval()
    with torch.no_grad():
        next(halved.parameters()).mul_(0.5)
    same: nn.Module = copy.deepcopy(model)
    assert Copies.of(model, X, False, lambda *_: Offered(same, same)).quick is same
    for made in (None, Offered(halved, same), Offered(same, halved), Offered(nn.Linear(1, 1), same)):
        quick = Copies.of(model, X, False, lambda *_, made=made: made).quick
        assert quick not in (None, same, halved)
    assert Copies.of(model, X, True, lambda *_: Offered(same, same)).quick is not same
