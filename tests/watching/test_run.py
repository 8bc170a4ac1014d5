"""What is told of runs whose files were written by hand, half there, or by a real run."""

import json
import os

import pytest
from filelock import FileLock

from harp.config import write_recipe
from harp.errors import HarpError
from harp.stages import run_stages
from harp.watching import lines, picture, watched_run
from harp.watching.reading import LOCKS, at_work
from harp.watching.run import StageState
from harp.watching.view import sparkline
from tests.tiny import tiny, workspace


def begun(folder, *steps):
    """A run in its pretrain stage of 12 steps, 4 an epoch, with a record for each of `steps`."""
    (folder / "1-pretrain").mkdir(parents=True)
    (folder / "recipe.yaml").write_bytes(write_recipe(tiny()))
    (folder / "environment.json").write_text("{}")
    data = {"name": "digits", "fingerprint": "x", "train": 128, "validation": 32, "test": 360, "classes": ["0", "1"]}
    (folder / "data.json").write_text(json.dumps(data))
    told = [{"step": s, "epoch": s / 4, "loss": 2.0, "validation": {"clean": 0.5, "robust": s / 20}} for s in steps]
    (folder / "1-pretrain" / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in told))
    for name, at in (("environment.json", 1000), ("recipe.yaml", 1001), ("1-pretrain/metrics.jsonl", 1021)):
        os.utime(folder / name, (at, at))


def test_steps_measures_and_the_pace_since_the_stage_began(tmp_path):
    begun(tmp_path, 4, 8)
    state = watched_run(tmp_path)
    stage = state.stages[0]
    assert (stage.name, stage.status, stage.step, stage.until) == ("pretrain", "running", 8, 12)
    assert stage.left(now=1021) == "10 s left"  # 20 s for 8 steps, 4 to go
    assert stage.left(now=1024) == "7 s left"
    assert stage.left((1011, 4), 1021) == "10 s left"
    assert lines(state) == ["pretrain: running, step 8 of 12, 10 s left, loss 2.000, clean 50.0 %, robust 40.0 %"]
    assert [one.status for one in state.stages[1:]] == ["waiting"] * 5
    assert not state.ended


def test_how_many_steps_there_are_is_known_before_the_first_record(tmp_path):
    begun(tmp_path)
    assert lines(watched_run(tmp_path)) == ["pretrain: running, step 0 of 12"]


def test_of_a_stage_taken_up_again_no_pace_is_known(tmp_path):
    begun(tmp_path, 4, 8)
    os.utime(tmp_path / "recipe.yaml", (1010 + 100, 1010 + 100))
    assert watched_run(tmp_path).stages[0].left(now=1200) == ""


@pytest.mark.parametrize("name", ["recipe.yaml", "data.json", "1-pretrain/metrics.jsonl"])
@pytest.mark.parametrize("content", [b"", b'{"step": 4, "ep', b"\xff\xfe", b"[1]\n"])
def test_what_is_half_there_is_waited_for(tmp_path, name, content):
    begun(tmp_path, 4)
    (tmp_path / name).write_bytes(content)
    state = watched_run(tmp_path)
    assert not state.ended
    assert lines(state)
    assert picture(state)


def test_what_is_no_run(tmp_path):
    with pytest.raises(HarpError, match=r"no run in .*: expected a folder with recipe\.yaml, or an arena's"):
        watched_run(tmp_path)


@pytest.mark.skipif(not LOCKS.exists(), reason="the kernel's list of locks is Linux's")
def test_who_is_at_work_is_seen_without_touching_the_lock(tmp_path):
    assert at_work(tmp_path) is False
    with FileLock(tmp_path / ".lock"):
        assert at_work(tmp_path) is True
    assert at_work(tmp_path) is False


def test_a_finished_run_has_ended_and_nothing_is_written(tmp_path):
    run_stages(workspace(tmp_path, pretrain={"epochs": 1}, prune={"epochs": 1}, finetune={"epochs": 1}))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    state = watched_run(tmp_path)
    assert state.ended
    assert [one.status for one in state.stages] == ["done"] * 6
    assert [(one.step, one.until) for one in state.stages[:3]] == [(4, 4)] * 3
    assert "budget 0.1" in lines(state)[1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    (tmp_path / "report.html").unlink()
    assert not watched_run(tmp_path).ended


def test_an_evaluation_under_way_is_told_by_its_batches(tmp_path):
    begun(tmp_path, 12)
    folder = tmp_path / "evaluation" / "dense"
    folder.mkdir(parents=True)
    for at, name in enumerate(("clean-00000", "pgd-00000"), 1):
        (folder / f"{name}.safetensors").write_bytes(b"")
        os.utime(folder / f"{name}.safetensors", (at, at))
    assert lines(watched_run(tmp_path))[-1] == "evaluate: running, dense, pgd: 1 of 1 batches"


def test_bars_go_from_nothing_to_the_highest():
    assert sparkline([0.0, 0.25, 0.5]) == "▁▅█"
    assert sparkline([0.0]) == "▁"
    assert sparkline([]) == ""
    assert len(sparkline([0.5] * 100)) == 24


def test_a_stage_that_is_done_has_no_time_left():
    assert StageState("prune", "done", 4, 4, 20.0, 10.0).left() == ""
