import pytest
from torch import nn

from harp.attacks import PGD
from harp.config import TrainingSettings
from harp.objectives import MART, PGDAT, TRADES, Accumulated, CutMix, Distillation, FastAT
from harp.pipeline.objectives import make_objective
from harp.threats import Threat

ATTACK, THREAT = PGD(steps=3), Threat(eps=0.1)


def made(teacher=None, **settings):
    def asked():
        assert teacher is not None, "nobody learns from a teacher here"
        return teacher

    return make_objective(TrainingSettings(**settings), ATTACK, THREAT, per_epoch=5, classes=3, teacher=asked)


def test_what_a_stage_says_nothing_of_is_the_objectives_own():
    assert made(objective="trades") == TRADES(ATTACK, THREAT)
    assert made(objective="mart", beta=2) == MART(ATTACK, THREAT, beta=2)


def test_spans_are_steps():
    assert made(objective="fast-at", guard_every="2ep") == FastAT(THREAT, guard_every=10)


def test_a_batch_in_parts_and_smoothed_labels():
    found = made(accumulate=4, smoothing=0.1)
    assert found == Accumulated(PGDAT(ATTACK, THREAT, smoothing=0.1), 4)
    # The guard is called for once a part, and looks as often as before.
    assert made(objective="fast-at", accumulate=2, guard_every="2ep") == Accumulated(FastAT(THREAT, guard_every=20), 2)


def test_mixed_images_are_mixed_within_a_part():
    assert made(accumulate=2, cutmix=0.5) == Accumulated(CutMix(PGDAT(ATTACK, THREAT), 0.5, 3), 2)


def test_a_teacher_is_asked_for_where_one_is_learned_from():
    found = made(nn.Linear(2, 2), objective="pwoa", beta=3, temperature=4, hsic_x=0, hsic_y=1, attacked=0.5)
    assert isinstance(found, Distillation)
    assert (found.beta, found.temperature, found.hsic_x, found.hsic_y, found.attacked) == (3, 4, 0, 1, 0.5)
    with pytest.raises(AssertionError, match="nobody learns"):
        made(objective="pwoa")
