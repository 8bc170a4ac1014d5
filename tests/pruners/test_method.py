import pytest
import torch
from torch import nn

from harp.pruners import Course, Moment


def optimizer(lr=0.1):
    weight = nn.Parameter(torch.ones(2, 2))
    made = torch.optim.SGD([{"role": "weights", "params": [weight], "weight_decay": 0.5}], lr=lr, momentum=0.9)
    weight.grad = torch.ones(2, 2)
    made.step()
    return weight, made


def test_a_moment_tells_the_learning_rate_of_then():
    _, made = optimizer()
    moment = Moment(3, made)
    made.param_groups[0]["lr"] = 0.7
    assert moment.lr == 0.1
    assert Moment(3).lr is None


def test_settings_go_by_role():
    _, made = optimizer()
    assert Moment(0, made).setting("weights", "weight_decay") == 0.5
    assert Moment(0, made).setting("rates", "weight_decay") is None
    assert Moment(0).setting("weights", "weight_decay") is None


def test_entries_lose_their_momentum_and_no_others():
    weight, made = optimizer()
    where = torch.tensor([[True, False], [False, False]])
    Moment(1, made).forget(weight, where)
    assert made.state[weight]["momentum_buffer"].tolist() == [[0, 1.5], [1.5, 1.5]]
    Moment(1).forget(weight, where)  # nobody trains, so nobody remembers
    Moment(1, made).forget(nn.Parameter(torch.ones(2, 2)), where)
    assert made.state[weight]["momentum_buffer"].tolist() == [[0, 1.5], [1.5, 1.5]]


def test_draws_of_a_method_go_by_seed_and_name():
    def drawn(course, *names):
        return torch.rand(4, generator=course.noise(*names)).tolist()

    assert drawn(Course(1), "a", 2) == drawn(Course(5, 50), "a", 2)
    assert drawn(Course(1), "a", 2) != drawn(Course(1), "a", 3)
    assert drawn(Course(1), "a", 2) != drawn(Course(1, seed=1), "a", 2)


@pytest.mark.parametrize("value", [0, 5])
def test_a_course_is_a_value(value):
    assert Course(1, value) == Course(1, value)
    assert hash(Course(1, value)) == hash(Course(1, value))
