"""Every row of benchmarks/grids/levers.yaml on tiny digits: killed over and over, and on two ranks at once."""

from pathlib import Path

import pytest

from harp.arena.grid import read_grid, row_of
from harp.stages import run_stages, training as train_module
from harp.training import fit
from tests.ranked import ranked
from tests.stages.test_on_ranks import TRAINED, train
from tests.stages.test_runner import Killed
from tests.tiny import results, workspace

GRID = Path(__file__).parents[2] / "benchmarks" / "grids" / "levers.yaml"
OFTEN = {"checkpoint_every": "3it"}
QUICK = "channels first, chord"


def short(settings):
    """The row's settings after a pretraining, with a checkpoint after every third step of every stage."""
    own = {name: {**OFTEN, **settings.get(name, {})} for name in TRAINED}
    stages = {"stages": ["pretrain", *settings["stages"]]} if "stages" in settings else {}
    return {**own, **stages}


ROWS = {name: short(settings) for name, settings in map(row_of, read_grid(GRID).rows)}


def dying_after(steps):
    """Training that ends, as by a kill, with the given step from now, whatever the stage."""
    left = steps

    def die(moment):
        nonlocal left
        left -= 1
        if left == 0:
            raise Killed

    return lambda *args, **options: fit(*args, **{**options, "on": [*options["on"], die]})


@pytest.mark.parametrize("row", [pytest.param(row, marks=[] if row == QUICK else pytest.mark.slow) for row in ROWS])
def test_killed_every_fifth_step_a_row_ends_with_the_same_bits(row, tmp_path, monkeypatch):
    run_stages(workspace(tmp_path / "whole", **ROWS[row]), TRAINED)
    kills = 0
    while True:
        with monkeypatch.context() as patch:
            patch.setattr(train_module, "fit", dying_after(5))
            try:
                run_stages(workspace(tmp_path / "killed", **ROWS[row]), TRAINED)
            except Killed:
                kills += 1
            else:
                break
    assert kills >= 3
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_on_two_ranks_every_row_holds_the_same_on_both(tmp_path):
    # Each rank's network, pruner and optimizer are compared before every checkpoint, bit for bit.
    ranked(2, train, tmp_path, tmp_path, *ROWS.values())
    found = [sorted(path.parent.name for path in (tmp_path / str(n)).glob("*/done.json")) for n in range(len(ROWS))]
    assert all(names[-1].endswith("finetune") for names in found)
