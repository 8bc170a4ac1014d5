import copy

import pytest
import torch
from torch import nn

from harp.attacks import PGD
from harp.errors import HarpError
from harp.objectives import OBJECTIVES, Distillation, has_teacher
from harp.objectives.dependence import gaussian, linear as products, nhsic, normalised
from harp.objectives.distillation import layers
from harp.randomness import generator
from harp.threats import Threat
from tests.attacks.linear import images, labels, linear

ATTACK, THREAT = PGD(steps=2), Threat(eps=0.1)


class Fixed(nn.Module):
    """Answers every image with the same logits."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).train()


def value(objective, model, x=None, noise=None):
    x = images(8) if x is None else x
    (evaluate,) = objective(model, x, labels(len(x)), noise or generator(0, "objective"))
    return evaluate()


def answers(teacher, **options):
    return Distillation(ATTACK, THREAT, teacher, **{"hsic_x": 0, "hsic_y": 0, **options})


def test_two_coins_at_temperature_30():
    """METHODS 2.5's example: .06242 times the weight of 10, and half of what the mean over images alone would be."""
    assert value(answers(Fixed(2.0, 0.0)), Fixed(1.0, 0.0)).item() == pytest.approx(0.6242, abs=1e-4)
    assert value(answers(Fixed(2.0, 0.0), beta=1.0), Fixed(1.0, 0.0)).item() == pytest.approx(0.06242, abs=1e-5)
    assert value(answers(Fixed(2.0, 0.0)), Fixed(2.0, 0.0)).item() == pytest.approx(0, abs=1e-6)


def test_labels_count_in_the_dependence_alone():
    model, teacher = network(), network(1)
    for options, same in (({}, True), ({"hsic_y": 1.0}, False)):
        objective = answers(teacher, **options)
        first = value(objective, model).item()
        (evaluate,) = objective(model, images(8), torch.zeros(8, dtype=torch.int64), generator(0, "objective"))
        assert (evaluate().item() == pytest.approx(first)) == same


def test_the_dependence_is_that_of_hidden_layers():
    model, teacher = network(), network(1)
    plain = value(answers(teacher), model).item()
    found = value(answers(teacher, hsic_x=0.5, hsic_y=0.25), model).item()
    x, y = images(8), torch.nn.functional.one_hot(labels(8))
    hidden = normalised(gaussian(model[1](x.flatten(1))))
    told = 0.5 * nhsic(normalised(gaussian(x)), hidden) - 0.25 * nhsic(normalised(products(y)), hidden)
    assert found - plain == pytest.approx(told.item(), rel=1e-5)


def test_layers_are_seen_in_the_order_of_their_calls_and_hooks_go():
    model = network()
    with layers(model) as outputs:
        logits = model(images(8))
    assert [tuple(z.shape) for z in outputs] == [(8, 3), (8, 2)]
    assert outputs[1] is logits
    model(images(8))
    assert len(outputs) == 2


def test_attention_is_seen_by_what_it_gives_and_not_by_its_weights():
    attention = nn.MultiheadAttention(4, 2)
    x = torch.randn(3, 5, 4)
    with layers(attention) as outputs:
        attention(x, x, x)
    assert [tuple(z.shape) for z in outputs] == [(3, 5, 4)]


def test_the_teacher_is_a_copy_that_neither_trains_nor_moves():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    objective = answers(model)
    before = copy.deepcopy(objective.teacher.state_dict())
    assert all(param.requires_grad for param in model.parameters())
    assert model.training
    value(objective, model).backward()
    with torch.no_grad():
        model.get_parameter("2.weight").add_(1)
    value(objective, model)
    assert all(torch.equal(before[name], now) for name, now in objective.teacher.state_dict().items())
    assert model[1].num_batches_tracked == 2


def test_a_share_of_the_batches_is_attacked_and_the_teacher_sees_the_same_images():
    x, seen = images(8), []
    objective = answers(network(1), attacked=0.5)
    objective.teacher.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    model = network()
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]) if module.training else None)
    moved = []
    for number in range(40):
        value(objective, model, x, generator(0, "batch", number))
        assert seen[-2] is seen[-1]
        moved.append(not torch.equal(seen[-1], x))
    assert 8 < sum(moved) < 32
    assert (THREAT.excess(seen[-1], x) <= 1e-6).all()


def test_training_goes_on_under_the_same_teacher_only():
    state = answers(network(1)).state_dict()
    answers(network(1)).load_state_dict(state)
    with pytest.raises(HarpError, match="the teacher is not the one"):
        answers(network(2)).load_state_dict(state)


def test_a_network_whose_layers_are_not_seen_is_refused():
    with pytest.raises(HarpError, match="saw no layer's output"):
        value(Distillation(ATTACK, THREAT, linear()), Fixed(1.0, 0.0))


def test_who_has_a_teacher():
    assert [name for name in OBJECTIVES if has_teacher(OBJECTIVES[name])] == ["adaad", "ard", "pwoa", "rslad"]
