import copy
import pickle

import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.objectives import AWP
from harp.pruners import Hydra, Moment
from harp.sparsity import Budget, find_sites
from tests.pruners.networks import Doubled, linear


def test_push_writes_the_effective_weights_and_pull_carries_their_gradient():
    model = linear([[0.0, 0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(Moment(0))
    assert model.weight.tolist() == [[7, 7]]
    model(torch.tensor([[10.0, 20.0]])).sum().backward()
    pruner.pull()
    assert pruner.w.grad is not None
    assert pruner.v.grad is not None
    assert pruner.w.grad.tolist() == [[20, 40]]
    assert pruner.v.grad.tolist() == [[10, 20]]


def test_several_backwards_make_one_pull():
    model = linear([[0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(Moment(0))
    for value in (1.0, 2.0):
        model(torch.tensor([[value]])).sum().backward()
    pruner.pull()
    assert pruner.v.grad is not None
    assert pruner.v.grad.tolist() == [[3]]


def test_a_push_between_forward_and_backward_is_refused_by_autograd():
    model = nn.Sequential(linear([[1.0]]), linear([[1.0]]))
    pruner = Doubled((find_sites(model)[1],))
    pruner.push(Moment(0))
    loss = model(torch.ones(1, 1)).sum()
    pruner.push(Moment(1))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_site_the_forward_did_not_use_is_left_out():
    model = nn.ModuleDict({"used": linear([[1.0]]), "unused": linear([[1.0]])})
    pruner = Doubled((find_sites(model)[1],))
    pruner.push(Moment(0))
    model["used"](torch.ones(1, 1)).sum().backward()
    pruner.pull()
    assert pruner.w.grad is None


def hydra(rows=((1.0, -2.0, 3.0, -4.0),)):
    """Keeps two of four weights: the last two."""
    model = linear([list(row) for row in rows])
    return model, Hydra(find_sites(model), Budget(0.5))


def write(model, values):
    with torch.no_grad():
        model.weight.copy_(torch.tensor([values]))


def replace_data(model, values):
    model.weight.data = torch.tensor([values])


def through_data(model, values):
    model.weight.data.copy_(torch.tensor([values]))


CHANGES = [write, replace_data, through_data]
NEW = [10.0, 20.0, 30.0, 40.0]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pushed", [False, True])
@pytest.mark.parametrize("lost", ["push", "settle", "settled"])
def test_what_came_into_the_model_in_between_is_not_thrown_away(change, pushed, lost):
    model, pruner = hydra()
    if pushed:
        pruner.push(Moment(0))
    change(model, NEW)
    with pytest.raises(HarpError, match="weight is neither what this Hydra copied when it was made nor what it wrote"):
        {"push": lambda: pruner.push(Moment(1)), "settle": pruner.settle, "settled": pruner.settled().__enter__}[lost]()
    assert model.weight.tolist() == [NEW]


def test_a_single_small_step_of_training_counts_as_a_change():
    model, pruner = hydra()
    write(model, [1.0, -2.0, 3.0, -4.0001])
    with pytest.raises(HarpError, match="make the pruner after that"):
        pruner.push(Moment(0))


@pytest.mark.parametrize("pushed", [False, True])
def test_weights_that_are_put_back_are_none_lost(pushed):
    model, pruner = hydra()
    if pushed:
        pruner.push(Moment(0))
    for change in CHANGES:
        before = model.weight.detach()[0].tolist()
        change(model, NEW)
        write(model, before)
        pruner.push(Moment(1))
    assert model.weight.tolist() == [[0, 0, 3, -4]]
    # A way there and back rounds.
    with torch.no_grad():
        model.weight.add_(1.7).sub_(1.7)
    assert not torch.equal(model.weight, torch.tensor([[0.0, 0, 3, -4]]))
    pruner.push(Moment(2))
    assert model.weight.tolist() == [[0, 0, 3, -4]]


def test_nor_are_those_that_awp_moves_around_a_pull():
    model, pruner = hydra()
    pruner.push(Moment(0))
    x = torch.ones(1, 4)
    with AWP(gamma=0.5)(model, lambda: model(x).pow(2).sum(), 0, pruner.kept):
        assert model.weight.tolist() != [[0, 0, 3, -4]]
        model(x).pow(2).sum().backward()
        pruner.pull()
    pruner.push(Moment(1))
    assert model.weight.tolist() == [[0, 0, 3, -4]]


def test_a_model_and_a_pruner_may_be_resumed_in_either_order():
    first, pruner = hydra()
    with torch.no_grad():
        pruner.scores["weight"].copy_(torch.tensor([[9.0, 1, 8, 1]]))
    pruner.push(Moment(0))
    saved, state = copy.deepcopy(first.state_dict()), copy.deepcopy(pruner.state_dict())
    for order in ("model first", "pruner first", "pruner alone"):
        model, second = hydra()
        if order == "model first":
            model.load_state_dict(saved)
        second.load_state_dict(state)
        if order == "pruner first":
            model.load_state_dict(saved)
        second.push(Moment(0))
        assert model.weight.tolist() == [[1, 0, 3, 0]]
        # And back, in the middle of training.
        with torch.no_grad():
            second.scores["weight"].copy_(torch.tensor([[1.0, 9, 1, 8]]))
        second.push(Moment(1))
        assert model.weight.tolist() == [[0, -2, 0, -4]]
        model.load_state_dict(saved)
        second.load_state_dict(state)
        assert second.settle()["weight"].tolist() == [[True, False, True, False]]


def test_but_not_a_model_that_is_neither_the_states_nor_that_of_its_making():
    model, pruner = hydra()
    pruner.load_state_dict(copy.deepcopy(pruner.state_dict()))
    write(model, NEW)
    with pytest.raises(HarpError, match="neither"):
        pruner.push(Moment(0))


def test_a_state_of_another_network_is_refused():
    _, pruner = hydra()
    _, other = hydra([(1.0, 2.0)])
    with pytest.raises(HarpError, match=r"has no weight of shape \[1, 4\]"):
        pruner.load_state_dict(other.state_dict())


def test_a_model_that_was_converted_is_refused():
    model, pruner = hydra()
    model.to(torch.float64)
    with pytest.raises(HarpError, match=r"weight was torch.float32 .* is torch.float64 now; move and convert"):
        pruner.push(Moment(0))


def gradients(model):
    model.zero_grad()
    model(torch.ones(1, 4)).sum().backward()


def test_pull_needs_one_push_and_one_only():
    model, pruner = hydra()
    gradients(model)
    with pytest.raises(HarpError, match="Hydra: nothing was pushed yet"):
        pruner.pull()
    pruner.push(Moment(0))
    gradients(model)
    pruner.pull()
    with pytest.raises(HarpError, match=r"pull\(\) twice after one push\(\) would count gradients twice"):
        pruner.pull()
    # The gradient at a score is that at the effective weight, 1, times the weight, with the score's sign.
    assert pruner.scores["weight"].grad.tolist() == [[1, 2, 3, 4]]


def test_gradients_of_the_settled_network_are_not_the_searchs():
    model, pruner = hydra()
    pruner.push(Moment(0))
    pruner.settle()
    assert pruner.ended
    gradients(model)
    with pytest.raises(HarpError, match=r"settle\(\) ended the search, .* harp.Masked\(sites, masks\)"):
        pruner.pull()
    assert pruner.settle()["weight"].tolist() == [[False, False, True, True]]
    pruner.push(Moment(1))
    assert not pruner.ended
    gradients(model)
    pruner.pull()


def test_settling_again_would_throw_fine_tuning_away():
    model, pruner = hydra()
    pruner.settle()
    write(model, [0.0, 0.0, 3.5, -4.5])
    with pytest.raises(HarpError, match="neither"):
        pruner.settle()


def test_what_settled_lends_is_taken_back_with_all_that_is_known_of_it():
    model, pruner = hydra()
    pruner.push(Moment(0))
    gradients(model)

    def look():
        with pruner.settled():
            assert pruner.ended
            write(model, NEW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        look()
    assert not pruner.ended
    assert model.weight.tolist() == [[0, 0, 3, -4]]
    pruner.pull()
    assert pruner.scores["weight"].grad.tolist() == [[1, 2, 3, 4]]


def test_what_is_kept_is_known_before_the_first_push_too():
    model, pruner = hydra()
    assert pruner.kept()[model.weight].tolist() == [[False, False, True, True]]


def pickled(things):
    return pickle.loads(pickle.dumps(things))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("pushed", [False, True])
def test_copies_of_both_go_on_as_the_first_would(copied, pushed):
    model, pruner = hydra()
    if pushed:
        pruner.push(Moment(0))
    for twin, second in (copied((model, pruner)), copied((pruner, model))[::-1]):
        if not pushed:
            second.push(Moment(0))
        gradients(twin)
        second.pull()
        assert second.scores["weight"].grad.tolist() == [[1, 2, 3, 4]]
        with torch.no_grad():
            second.scores["weight"].copy_(torch.tensor([[9.0, 1, 8, 1]]))
        second.push(Moment(1))
        assert twin.weight.tolist() == [[1, 0, 3, 0]]
    assert model.weight.tolist() == [[0, 0, 3, -4] if pushed else [1, -2, 3, -4]]


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize(
    "act",
    [Hydra.pull, Hydra.settle, lambda pruner: pruner.push(Moment(0)), lambda pruner: pruner.settled().__enter__()],
)
def test_a_copy_alone_is_refused_when_it_is_used(copied, act):
    model, pruner = hydra()
    pruner.push(Moment(0))
    second = copied(pruner)
    with pytest.raises(HarpError, match="copied or unpickled without its network"):
        act(second)
    # What it has learned is of use all the same.
    third = Hydra(find_sites(model), Budget(0.5))
    third.load_state_dict(second.state_dict())
    third.push(Moment(0))
    assert model.weight.tolist() == [[0, 0, 3, -4]]


def test_slopes_are_those_of_the_latents_and_nobody_keeps_them():
    """2 w + v times 5: the slopes are 10 and 5."""
    model = linear([[0.0, 0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(Moment(0))
    slopes = pruner.slopes((5 * model.weight).sum(), [pruner.w, pruner.v])
    assert [slope.tolist() for slope in slopes] == [[[10, 10]], [[5, 5]]]
    assert pruner.slopes(torch.ones((), requires_grad=True) * 3, [pruner.w])[0].tolist() == [[0, 0]]
    assert model.weight.grad is pruner.w.grad is None


def test_what_is_tried_is_pulled_where_it_stands_and_leaves_the_weights_as_they_were():
    model = linear([[0.0, 0.0]])
    pruner = Doubled(find_sites(model))
    pruner.push(Moment(0))
    assert model.weight.tolist() == [[7, 7]]
    with torch.no_grad():
        pruner.w.fill_(1.0)
    with pruner.trying():
        assert model.weight.tolist() == [[3, 3]]
        model.weight.square().sum().backward()
        pruner.pull()
    assert model.weight.tolist() == [[7, 7]]
    assert pruner.w.grad is not None
    assert pruner.w.grad.tolist() == [[12, 12]]
    with pytest.raises(HarpError, match="pull"):
        pruner.pull()
    pruner.push(Moment(1))
    assert model.weight.tolist() == [[3, 3]]
