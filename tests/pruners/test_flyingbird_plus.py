import pytest
import torch
from torch import nn

from harp.pruners import Course, FlyingBirdPlus, FlyingBirdPlusOptions, Moment
from harp.sparsity import Budget, find_sites

WEIGHTS = [0.9, -0.1, 0.4, 0.05, 0, 0, 0, 0]
BETTER = {"robust": (0.3, 0.4, 0.5), "train_robust": (0.3, 0.4, 0.5)}
OVERFITS = {"robust": (0.3, 0.4, 0.5), "train_robust": (0.3, 0.5, 0.9)}
STALLS = {"robust": (0.3, 0.3, 0.2), "train_robust": (0.3, 0.3, 0.2)}
BOTH = {"robust": (0.3, 0.3, 0.3), "train_robust": (0.3, 0.4, 0.5)}


def bird(measures=BETTER, since="2it", **options):
    model = nn.Linear(8, 1, bias=False)
    settings = {"every": "2it", "drop": 0.5, "drop_end": 0.5, "window": 2, "since": since, **options}
    pruner = FlyingBirdPlus(
        find_sites(model), Budget(0.5), options=FlyingBirdPlusOptions(**settings), course=Course(4, 8)
    )
    pruner.move({"weight": torch.tensor([[True] * 4 + [False] * 4])})
    with torch.no_grad():
        model.weight.copy_(torch.tensor([WEIGHTS]))
    pruner.push(Moment(0))
    for robust, train in zip(measures["robust"], measures["train_robust"], strict=True):
        pruner.hear({"clean": 0.9, "robust": robust, "train_clean": 0.9, "train_robust": train})
    return model, pruner


@pytest.mark.parametrize(
    ("measures", "stay", "grown"),
    [
        (BETTER, [0.9, 0, 0.4, 0], 2),
        (OVERFITS, [0.9, 0, 0, 0], 2),
        (STALLS, [0.9, 0, 0.4, 0], 3),
        (BOTH, [0.9, 0, 0, 0], 3),
    ],
)
def test_more_is_dropped_where_it_overfits_and_more_grows_where_it_stalls(measures, stay, grown):
    """METHODS 2.8's example: of four weights two go, or ceil(.4 * .5 * 4) = 1 more; round(1.3 * 2) grow, or two."""
    model, pruner = bird(measures, growth=1.3)
    pruner.push(Moment(2))
    assert model.weight.tolist()[0] == pytest.approx([*stay, 0, 0, 0, 0])
    assert pruner.chosen["weight"][0, 4:].sum() == grown


def test_before_its_time_and_after_too_few_measures_it_is_flyingbird():
    _, early = bird(BOTH, since="3it")
    _, young = bird(BOTH, window=3)
    for pruner in (early, young):
        assert pruner.moved(2, "weight", 4, 8) == (2, 2)
    assert early.moved(4, "weight", 4, 8) == (3, 2)


def test_half_of_the_last_changes_is_enough_and_older_ones_are_forgotten():
    _, pruner = bird(OVERFITS)
    assert pruner.overfits()
    pruner.hear({"robust": 0.5, "train_robust": 0.8})
    assert pruner.overfits()
    pruner.hear({"robust": 0.5, "train_robust": 0.7})
    assert not pruner.overfits()


def test_no_layer_loses_its_last_weight_or_grows_beyond_its_size():
    _, pruner = bird(BOTH, more=1.0, growth=10)
    assert pruner.moved(2, "weight", 2, 100) == (1, 10)
    assert pruner.moved(2, "weight", 90, 100)[1] == 10


def test_settle_cuts_to_the_largest():
    model, pruner = bird()
    pruner.move({"weight": torch.tensor([[True] * 6 + [False] * 2])})
    with torch.no_grad():
        model.weight[0, 4] = 0.2
    assert pruner.notes() == ["settle cut 2 weights that the network was trained with, to meet the budget"]
    assert pruner.settle()["weight"].int().tolist() == [[1, 1, 1, 0, 1, 0, 0, 0]]


def test_settle_fills_up_with_zeros_and_looking_changes_nothing():
    model, pruner = bird(OVERFITS)
    pruner.push(Moment(2))
    before = pruner.chosen["weight"].clone()
    assert before.sum() == 3
    with pruner.settled():
        inside = pruner.chosen["weight"].clone()
        assert inside.sum() == 4
        assert (inside | before).equal(inside)
        assert model.weight.count_nonzero() == 1
    assert pruner.chosen["weight"].equal(before)
    assert pruner.notes() == ["settle filled the budget up with 1 weights at 0, for fine-tuning to train"]
    assert pruner.settle()["weight"].equal(inside)


def test_layers_share_the_budget_as_they_stand():
    """A quarter and a half of 16, their logits raised by ln(3) / 2: 5.86 and 10.14."""
    model = nn.Sequential(nn.Linear(16, 1, bias=False), nn.Linear(16, 1, bias=False))
    pruner = FlyingBirdPlus(find_sites(model), Budget(0.5), course=Course(1, 4))
    pruner.move({f"{i}.weight": (torch.arange(16) < kept)[None] for i, kept in enumerate((4, 8))})
    assert pruner.settle().counts == {"0.weight": 6, "1.weight": 10}


def test_a_search_that_never_changed_its_size_ends_as_it_is_and_says_where_nothing_was_measured():
    model = nn.Linear(8, 1, bias=False)
    pruner = FlyingBirdPlus(
        find_sites(model), Budget(0.5), options=FlyingBirdPlusOptions(every="2it"), course=Course(4, 8)
    )
    chosen = pruner.chosen["weight"].clone()
    assert pruner.notes() == []
    pruner.push(Moment(8))
    assert pruner.notes() == ["nothing was measured before the end, so it was flyingbird; selection best measures"]
    assert pruner.settle()["weight"].equal(chosen)


def test_what_was_heard_survives_a_kill():
    _, pruner = bird(BOTH)
    _, again = bird()
    again.load_state_dict(pruner.state_dict())
    assert again.overfits()
    assert again.stalls()
