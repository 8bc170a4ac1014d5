import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import ACDC, ACDCOptions, Course, Moment
from harp.sparsity import Budget, find_sites

WEIGHTS = [0.9, -0.2, 0.5, 0.1]


def made(course=None, **options):
    model = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([WEIGHTS]))
    settings = {"phase": "2it", "dense": "2it", "last": 0.25, **options}
    pruner = ACDC(find_sites(model), Budget(0.5), options=ACDCOptions(**settings), course=course or Course(2, 16))
    return model, pruner, torch.optim.SGD([model.weight], lr=0.0, momentum=0.9)


def walked(pruner, model, optimizer, last):
    """Whether the network was sparse after each step up to `last`."""
    pruner.push(Moment(0, optimizer))
    phases = [pruner.sparse]
    for step in range(1, last + 1):
        model.weight.grad = torch.ones(1, 4)
        pruner.pull()
        optimizer.step()
        pruner.push(Moment(step, optimizer))
        phases.append(pruner.sparse)
    return phases


def test_what_is_cut_comes_back_at_zero_and_without_momentum():
    """METHODS 9.6's example."""
    model, pruner, optimizer = made()
    walked(pruner, model, optimizer, 2)
    assert model.weight.tolist()[0] == pytest.approx([0.9, 0, 0.5, 0])
    assert pruner.chosen["weight"].tolist() == [[True, False, True, False]]
    for step in (3, 4):
        pruner.push(Moment(step, optimizer))
    assert model.weight.tolist()[0] == pytest.approx([0.9, 0, 0.5, 0])
    assert pruner.chosen["weight"].tolist() == [[True] * 4]
    assert (optimizer.state[model.weight]["momentum_buffer"][0] != 0).tolist() == [True, False, True, False]


def test_phases_take_turns_and_the_last_is_sparse():
    model, pruner, optimizer = made()
    phases = walked(pruner, model, optimizer, 16)
    assert phases == [False] * 2 + [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2 + [True] * 7


def test_the_papers_phases():
    """CIFAR-100, 200 epochs: cut at 10, 50, 90, 130, 170, let back at 30, 70, 110, 150 (METHODS 9.6)."""
    _, pruner, _ = made(Course(1, 200), phase="20ep", dense="10ep", last=0.15)
    turns = [step for step in range(1, 200) if pruner.is_sparse(step) != pruner.is_sparse(step - 1)]
    assert turns == [10, 30, 50, 70, 90, 110, 130, 150, 170]


def test_a_state_of_a_dense_phase_is_cut_at_the_end_and_noted():
    model, pruner, optimizer = made()
    pruner.push(Moment(0, optimizer))
    with pruner.settled():
        assert (model.weight != 0).sum() == 2
    assert (model.weight != 0).sum() == 4
    assert pruner.notes() == ["the state that was kept is of a dense phase (step 0), cut to the budget at the end"]
    assert pruner.settle().counts == {"weight": 2}


def test_without_a_number_of_steps_it_is_refused():
    with pytest.raises(HarpError, match="acdc goes by the stage's steps"):
        made(Course(2))
