"""Every broken defence doubted, around a naturally and an adversarially trained network; forty honest ones, none."""

import copy
from functools import cache

import pytest

from harp.evaluation.doubts import Evidence, examine
from tests.evaluation.defences import THREAT, digits, network
from tests.evaluation.doubts.broken import BROKEN, Sized, stuck
from tests.evaluation.doubts.honest import KINDS, make

# Whatever else is raised, this must be.
NAMED = {
    "constant": "constant-answer",
    "remembering": "changing-state",
    "remembering, no buffer": "changing-state",
    "learning": "randomness",
    "moving": "moving-gradients",
    "rippled": "misleading-gradients",
    "rippled, coarser": "averaged-gradients-win",
    "rippled, finer": "misleading-gradients",
    "resetting": "generator-reset",
    "pathless": "zero-gradients",
    "knowing": "jump-beyond-eps",
    "centred": "batch-dependence",
    "mixed": "batch-dependence",
    "watching": "moving-gradients",
    "shaken": "randomness",
    "shifted": "randomness",
    "voted": "zero-gradients",
    "seeded": "misleading-gradients",
    "compressed": "zero-gradients",
    "thermometer": "zero-gradients",
    "straight": "misleading-gradients",
    "cooled": "saturated-loss",
    "saturated": "zero-gradients",
    "hooked": "misleading-gradients",
    "patchy": "black-box-wins",
    "crowded": "misleading-gradients",
    "helpful": "test-time-optimisation",
}
FEW = ("linear", "layer norm", "hardly trained", "cosine", "cached", "contrast")


@cache
def honest(name):
    return make(KINDS[name], 0)


def doubts(model, n=64, **options):
    return {doubt.name for doubt in examine(model.eval(), *digits(n), THREAT, Evidence(**options))}


def test_there_are_forty():
    assert len(KINDS) >= 40
    assert set(FEW) <= set(KINDS)
    assert set(NAMED) <= set(BROKEN)


@pytest.mark.parametrize("name", FEW)
def test_an_honest_network_is_not_doubted(name):
    assert doubts(honest(name)) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(KINDS) - set(FEW)))
def test_nor_is_any_other(name):
    assert doubts(honest(name), 128, references=[network("dense-natural")]) == set()


@pytest.mark.parametrize("name", ["constant", "moving", "pathless", "resetting", "watching", "mixed", "patchy"])
def test_a_broken_defence_is_doubted(name):
    assert NAMED[name] in doubts(BROKEN[name](copy.deepcopy(network("dense"))), 32)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["dense", "dense-natural"])
@pytest.mark.parametrize("name", sorted(NAMED))
def test_so_is_every_other(name, base):
    found = doubts(BROKEN[name](copy.deepcopy(network(base))))
    # Behind a naturally trained network the coarse ripple hides nothing that single gradients would not find.
    assert found >= {NAMED[name]} if name != "rippled, coarser" else found


def test_answers_that_depend_on_the_batchs_size_or_statistics_are_doubted():
    model = network("dense")
    assert "batch-size" in doubts(Sized(model, network("dense-natural")), 32)
    assert {"batch-size", "batch-dependence"} <= doubts(stuck(copy.deepcopy(network("convolutional"))), 32)


@pytest.mark.slow
def test_images_against_the_undefended_network_tell_on_the_defended_one():
    model = network("dense-natural")
    defended = BROKEN["remembering"](copy.deepcopy(model))
    assert "transfer-wins" in doubts(defended, references=[model])


def test_images_against_others_are_no_better_than_attacks_on_an_honest_network():
    assert doubts(network("dense"), references=[network("dense-natural"), network("dense", 1)]) == set()
