import copy

import pytest
import torch

from harp.errors import HarpError
from harp.pruners import METHODS, Course, Harp, Hydra, Masked, Moment, MovingMasks, Options, Pruner, make_pruner
from harp.sparsity import Budget, Masks, find_sites
from tests.pruners.networks import linear


def test_a_pruner_that_prunes_nothing_changes_nothing():
    model = linear([[1.0, 2.0]])
    pruner = Pruner(find_sites(model))
    pruner.push(Moment(0))
    model.weight.grad = torch.tensor([[5.0, 6.0]])
    pruner.pull()
    assert model.weight.tolist() == [[1, 2]]
    assert model.weight.grad.tolist() == [[5, 6]]
    assert pruner.penalty() == 0
    assert pruner.trainables()["weights"].params[0] is model.weight
    with pytest.raises(HarpError, match="prunes nothing"):
        pruner.settle()


def test_a_network_in_place_of_its_sites_is_refused():
    model = linear([[1.0, 2.0]])
    mask = Masks({"weight": torch.tensor([[True, False]])})
    makers = (Pruner, lambda what: Masked(what, mask), lambda what: Hydra(what, Budget(0.5)))
    for make in (*makers, lambda what: Harp(what, Budget(0.5), course=Course(1))):
        with pytest.raises(HarpError, match=r"got the Linear itself; harp\.find_sites\(model\) gives them"):
            make(model)
        with pytest.raises(HarpError, match=r"expected sites as harp\.find_sites\(model\) gives them, got str"):
            make(["weight"])  # type: ignore[arg-type]


def test_neither_no_site_nor_a_number_for_a_budget_makes_a_search():
    with pytest.raises(HarpError, match="no sites were given"):
        Hydra((), Budget(0.5))
    with pytest.raises(HarpError, match=r"budget: expected harp\.Budget\(keep\), got float"):
        Hydra(find_sites(linear([[1.0, 2.0]])), 0.5)  # type: ignore[arg-type]


def test_a_pruner_copied_with_its_network_is_the_copys():
    model = linear([[1.0, 2.0]])
    pruner = Masked(find_sites(model), Masks({"weight": torch.tensor([[True, False]])}))
    twin, second = copy.deepcopy((model, pruner))
    second.push(Moment(0))
    assert second.sites[0].param is twin.weight
    assert twin.weight.tolist() == [[1, 0]]
    assert model.weight.tolist() == [[1, 2]]


@pytest.mark.parametrize("act", [Masked.pull, lambda pruner: pruner.push(Moment(0))])
def test_a_pruner_copied_alone_is_refused_when_it_is_used(act):
    model = linear([[1.0, 2.0]])
    pruner = copy.deepcopy(Masked(find_sites(model), Masks({"weight": torch.tensor([[True, False]])})))
    with pytest.raises(HarpError, match=r"weight of this Masked is no network's parameter any more"):
        act(pruner)
    assert model.weight.tolist() == [[1, 2]]


def test_so_is_one_whose_network_got_other_parameters():
    model = linear([[1.0, 2.0]])
    pruner = Masked(find_sites(model), Masks({"weight": torch.tensor([[True, False]])}))
    model.load_state_dict(linear([[3.0, 4.0]]).state_dict(), assign=True)
    with pytest.raises(HarpError, match=r"load_state_dict\(assign=True\)"):
        pruner.push(Moment(0))


def test_a_method_is_given_what_it_takes_and_options_are_never_lost(monkeypatch):
    class Depth(Options):
        depth: int = 1

    class Plain(MovingMasks):
        """Takes neither options nor a course."""

    class Timed(MovingMasks):
        def __init__(self, what, budget, *, course):
            super().__init__(what, budget)
            self.course = course

    class Deaf(MovingMasks):
        takes = Depth

    sites, course = find_sites(linear([[1.0, 2.0]])), Course(3)
    for kind in (Plain, Timed, Deaf):
        monkeypatch.setitem(METHODS._factories, kind.__name__, kind)
    assert isinstance(make_pruner("Plain", sites, Budget(0.5), Options(), course), Plain)
    timed = make_pruner("Timed", sites, Budget(0.5), Options(), course)
    assert isinstance(timed, Timed)
    assert timed.course is course
    with pytest.raises(HarpError, match="'Deaf' has options, and its __init__ takes no options="):
        make_pruner("Deaf", sites, Budget(0.5), Depth(), course)
