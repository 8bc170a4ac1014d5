"""What is made of a probe's answers, and the whole of it on a tiny run."""

import json
import sys

import pytest

from harp.cli import main
from harp.cli.planning import table
from harp.config import write_recipe
from harp.errors import HarpError
from harp.probing import Range, estimate
from harp.probing.probe import probed
from tests.tiny import tiny

module = sys.modules["harp.probing.estimate"]
TOLD = {
    "done": ["pretrain"],
    "stages": {
        "prune": {"steps": 10, "step": 0.5, "validations": 2, "validation": 3.0, "bytes": 700},
    },
    "evaluation": {
        "networks": 2,
        "images": 10,
        "least": [2, 0],
        "most": [4, 1],
        "forward": 0.01,
        "gradient": 0.03,
    },
}


def test_times_passes_and_ranges_are_products_and_sums(monkeypatch):
    monkeypatch.setattr(module, "_probe", lambda task: TOLD if task["memory"] is None else {"peak": 9})
    done, prune, evaluate = rows = estimate(tiny(stages=["pretrain", "prune"]))
    assert (done.stage, done.done) == ("pretrain", True)
    assert (prune.steps, prune.seconds, prune.memory, prune.disk) == (10, Range(11, 11), 9, 700)
    assert prune.forwards == Range(10 * 32 * (2 * 3 + 3), 10 * 32 * (2 * 3 + 3))
    assert evaluate.forwards == Range(2 * 10 * 2, 2 * 10 * (4 + 3))
    assert [evaluate.seconds.low, evaluate.seconds.high] == pytest.approx([0.4, 1.4])
    assert table(rows).row_count == 4


def test_a_run_that_is_done_takes_nothing(monkeypatch):
    monkeypatch.setattr(module, "_probe", lambda task: {"done": ["prune"], "stages": {}, "evaluation": None})
    assert [row.done for row in estimate(tiny())] == [True, True]
    assert table(estimate(tiny())).row_count == 2


def test_a_process_that_fails_says_why(monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "false")
    with pytest.raises(HarpError, match="the probe failed: exit status 1"):
        estimate(tiny())


def test_what_the_run_would_refuse_is_refused(tmp_path):
    task = {"recipe": tiny(pretrain={"batch_size": 500}).model_dump(mode="json"), "folder": str(tmp_path / "a")}
    with pytest.raises(HarpError, match="pretrain: batch size 500 for 128 images"):
        probed({**task, "edited": [], "memory": None})


def test_the_command_writes_nothing(tmp_path, monkeypatch, capsys):
    """In this process, which spares five starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_bytes(write_recipe(tiny()))
    monkeypatch.setattr(module, "_probe", lambda task: json.loads(json.dumps(probed(task))))
    main(["plan", "tiny.yaml", "--folder", "mine", "--prune.epochs", "2"])
    said = capsys.readouterr()
    assert "│ pretrain │    12 │" in said.out
    assert "│ prune    │     8 │" in said.out
    assert "depends on how many images hold" in said.out.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


@pytest.mark.slow
def test_the_same_in_processes_of_their_own():
    rows = estimate(tiny())
    assert [row.stage for row in rows] == ["pretrain", "prune", "finetune", "evaluate"]
    assert all(row.memory is not None and row.memory > 1e8 for row in rows)
    assert all(0 < row.seconds.low <= row.seconds.high for row in rows)
