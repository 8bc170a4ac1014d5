"""The mean over parts is the whole's, where nothing looks across images; and whoever asks for gradients gets them."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from harp.attacks import PGD
from harp.config import TrainingSettings
from harp.errors import HarpError
from harp.objectives import AWP, PGDAT, TRADES, Accumulated, FreeAT, Natural
from harp.pruners import Pruner
from harp.randomness import generator
from harp.threats import Threat
from harp.training import fit, sgd

THREAT = Threat(eps=0.1)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batch(n=12):
    noise = generator(0, "images")
    return torch.rand(n, 3, 2, 2, generator=noise).double(), torch.arange(n) % 3


def closure(objective, model, x, y):
    return next(objective(model, x, y, generator(0, "objective")))


@pytest.mark.parametrize("parts", [2, 3, 12])
def test_value_and_gradient_are_those_of_the_whole(parts):
    model, (x, y) = network(), batch()
    whole, found = closure(Natural(), model, x, y)(), closure(Accumulated(Natural(), parts), model, x, y)()
    torch.testing.assert_close(found, whole)
    for one, other in zip(
        *(torch.autograd.grad(loss, list(model.parameters())) for loss in (found, whole)), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_no_part_sees_the_images_of_another():
    seen = []
    model, (x, y) = network(), batch()
    model.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    closure(Accumulated(Natural(), 3), model, x, y)()
    assert [len(images) for images in seen] == [4, 4, 4]
    assert torch.equal(torch.cat(seen), x)


def test_each_part_is_attacked_once_however_often_it_is_evaluated():
    model, (x, y) = network(), batch()
    evaluate = closure(Accumulated(PGDAT(PGD(steps=2), THREAT), 2), model, x, y)
    assert evaluate() == evaluate()


def test_a_frozen_parameter_and_one_without_a_part_in_the_loss_get_nothing():
    model, (x, y) = network(), batch()
    model.register_parameter("idle", nn.Parameter(torch.zeros(2)))
    model[1].bias.requires_grad_(False)
    closure(Accumulated(Natural(), 2), model, x, y)().backward()
    assert model.idle.grad is None
    assert model[1].bias.grad is None
    assert model[1].weight.grad is not None


def test_what_a_pruner_hangs_on_a_layer_learns_too():
    gate, (x, y) = nn.Parameter(torch.full((5,), 0.5).double()), batch()
    slopes: list[torch.Tensor] = []
    for objective in (Natural(), Accumulated(Natural(), 3)):
        model = network()
        model[3].register_forward_pre_hook(lambda module, given: given[0] * gate)
        slopes += torch.autograd.grad(closure(objective, model, x, y)(), gate)
    torch.testing.assert_close(slopes[0], slopes[1])
    assert slopes[0].abs().min() > 0


@pytest.mark.parametrize("ascent", [None, AWP(0.1)])
def test_training_in_parts_is_training_on_the_whole(ascent):
    data = [batch(12)]
    data = [(x.float(), y) for x, y in data]
    trained = []
    for objective in (Natural(), Accumulated(Natural(), 3)):
        model = network().float()
        optimizer, more = sgd(model, Pruner(), lr=0.1), {} if ascent is None else {"ascent": ascent}
        fit(model, data, objective=objective, optimizer=optimizer, pruner=Pruner(), until=5, **more)
        trained.append(nn.utils.parameters_to_vector(model.parameters()))
    torch.testing.assert_close(trained[0], trained[1])


def test_state_and_notes_are_the_objectives():
    inner = TRADES(PGD(steps=1), THREAT)
    assert Accumulated(inner, 2).replays == inner.replays
    assert Accumulated(inner, 2).state_dict() == inner.state_dict()
    assert copy.deepcopy(Accumulated(inner, 2)) == Accumulated(inner, 2)


def test_what_has_no_parts():
    with pytest.raises(HarpError, match="10 images do not divide into 3"):
        closure(Accumulated(Natural(), 3), network(), *batch(10))
    with pytest.raises(HarpError, match="FreeAT moves its images"):
        Accumulated(FreeAT(THREAT), 2)
    with pytest.raises(HarpError, match="1 parts; expected at least 2"):
        Accumulated(Natural(), 1)
    with pytest.raises(ValueError, match="batch_size is 10, which accumulate 4 does not divide"):
        TrainingSettings(batch_size=10, accumulate=4)


def test_smoothed_labels():
    model, (x, y) = network(), batch()
    expected = 0.9 * cross_entropy(model(x), y) - 0.1 * model(x).log_softmax(1).mean()
    for objective in (Natural(smoothing=0.1), PGDAT(PGD(steps=1), Threat(eps=0.0), smoothing=0.1)):
        torch.testing.assert_close(closure(objective, model, x, y)(), expected)
