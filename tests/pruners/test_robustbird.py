import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.pruners import Course, Moment, RobustBird, RobustBirdOptions
from harp.sparsity import Budget, find_sites


def bird(keep=0.2, **options):
    """A bird over ten weights, looking at every step."""
    torch.manual_seed(0)
    model = nn.Linear(10, 1)
    made = RobustBirdOptions(every="1it", **options)
    return model, RobustBird(find_sites(model), Budget(keep, floor=0.0), options=made, course=Course(1, 100))


def look(model, pruner, step, *largest):
    """A step after which these weights are the largest."""
    with torch.no_grad():
        model.weight.fill_(0.1)
        model.weight[0, list(largest)] = 1.0
    pruner.push(Moment(step))


@pytest.mark.parametrize(("form", "distance", "limit"), [("published", 0.2, 0.08), ("repaired", 0.5, 0.2)])
def test_two_masks_that_share_one_of_two_weights_are_far_apart(form, distance, limit):
    model, pruner = bird(form=form, looks=2)
    look(model, pruner, 1, 1, 3)
    look(model, pruner, 2, 1, 2)
    assert pruner.distance() == pytest.approx(distance)
    assert pruner.limit == limit
    assert not pruner.done


@pytest.mark.parametrize("form", ["published", "repaired"])
def test_it_is_done_once_all_looks_agree_and_keeps_the_weights(form):
    model, pruner = bird(form=form, looks=3)
    for step, largest in enumerate([(1, 3), (1, 2), (1, 2), (1, 2)], 1):
        look(model, pruner, step, *largest)
        assert pruner.done == (step == 4)
    assert model.weight.ne(0).all()  # dense to the end
    masks = pruner.settle()
    assert masks["weight"].nonzero()[:, 1].tolist() == [1, 2]
    assert model.weight[0].tolist() == pytest.approx([0, 1, 1, 0, 0, 0, 0, 0, 0, 0])
    assert pruner.notes() == []


def test_the_published_test_is_void_at_small_budgets():
    for form, done in (("published", True), ("repaired", False)):
        torch.manual_seed(0)
        model = nn.Linear(100, 1)
        options = RobustBirdOptions(form=form, every="1it", looks=2)
        pruner = RobustBird(find_sites(model), Budget(0.02, floor=0.0), options=options, course=Course(1, 9))
        look(model, pruner, 1, 1, 2)
        look(model, pruner, 2, 3, 4)  # not one weight in common
        assert pruner.done == done


def test_the_state_brings_back_what_was_seen():
    model, pruner = bird(looks=3)
    for step in (1, 2):
        look(model, pruner, step, 1, 2)
    _, other = bird(looks=3)
    other.load_state_dict(pruner.state_dict())
    other.push(Moment(2))  # a resumed stage begins with its checkpoint's moment
    assert len(other.seen) == 2
    assert all(torch.equal(a["weight"], b["weight"]) for a, b in zip(other.seen, pruner.seen, strict=True))


def test_a_ticket_drawn_too_early_is_told():
    model, pruner = bird(looks=3)
    look(model, pruner, 1, 1, 2)
    assert pruner.notes() == ["the ticket was drawn before the largest weights stayed the same: after 1 of 3 looks"]
    look(model, pruner, 2, 3, 4)
    look(model, pruner, 3, 5, 6)
    assert "the last masks were 1 apart, more than 0.2" in pruner.notes()[0]


def test_it_goes_by_epochs():
    with pytest.raises(HarpError, match="needs course="):
        RobustBird(find_sites(nn.Linear(10, 1)), Budget(0.2))
