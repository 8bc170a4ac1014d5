import pytest

from harp.tuning.halving import going_on, ladder, shortened
from harp.tuning.schema import Trial


def test_nine_trials_on_three_rungs_are_nine_three_and_one():
    rungs = ladder(9, 3, 3)
    assert [(rung.trials, rung.share) for rung in rungs] == [
        (9, pytest.approx(1 / 9)),
        (3, pytest.approx(1 / 3)),
        (1, 1),
    ]
    assert sum(rung.trials * rung.share for rung in rungs) == pytest.approx(3)  # of one full training each
    assert [(rung.trials, rung.share) for rung in ladder(5, 3, 4)] == [(5, 1 / 16), (1, 1 / 4), (1, 1)]


def trial(number, robust, clean=0.9):
    about = {"row": "a", "rung": 0, "settings": {}, "folder": "", "epochs": 1, "forwards": 1}
    return Trial(number=number, robust=robust, clean=clean, **about)


def test_the_most_robust_go_on_then_the_cleanest_then_the_first_and_failed_ones_never():
    measured = [trial(0, 0.5), trial(1, None, None), trial(2, 0.6), trial(3, 0.5, 0.95), trial(4, 0.5)]
    assert [one.number for one in going_on(measured, 3)] == [2, 3, 0]
    assert [one.number for one in going_on(measured, 9)] == [2, 3, 0, 4]


def test_every_stage_is_shortened_by_the_share_and_keeps_an_epoch():
    values = {"prune": {"epochs": 9}, "finetune": {"epochs": 4, "lr": 0.1}, "pretrain": {"epochs": 7}}
    assert shortened(values, 1 / 3) == {
        "prune": {"epochs": 3},
        "finetune": {"epochs": 2, "lr": 0.1},
        "pretrain": {"epochs": 7},
    }
    listed = {**values, "stages": ["prune", {"finetune": {"epochs": 8}}, {"finetune": {"lr": 1}}]}
    assert shortened(listed, 1 / 9)["stages"] == ["prune", {"finetune": {"epochs": 1}}, {"finetune": {"lr": 1}}]
