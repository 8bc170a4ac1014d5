import json
import shutil

import pytest
import torch

from harp.errors import HarpError
from harp.runs import Metrics, Run, environment, file_word, remove, save_tree
from harp.version import VERSION


def test_metrics_leave_out_a_last_line_cut_short(tmp_path):
    metrics = Metrics(tmp_path / "stage" / "metrics.jsonl")
    assert list(metrics) == []
    metrics.add({"step": 1, "loss": 0.1})
    metrics.add({"step": 2, "loss": 0.05})
    whole = metrics.path.read_bytes()
    for cut in range(1, len(whole) // 2):
        metrics.path.write_bytes(whole[:-cut])
        assert [record["step"] for record in metrics] == [1]


def test_metrics_go_on_after_a_rewind(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for step in (1, 2, 3):
        metrics.add({"step": step, "loss": 0.1 * step})
    with open(metrics.path, "a") as file:
        file.write('{"step": 4, "lo')
    metrics.rewind(2)
    metrics.add({"step": 3, "loss": 7.0})
    assert list(metrics) == [{"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2}, {"step": 3, "loss": 7.0}]
    metrics.rewind(0)
    assert list(metrics) == []


def test_metrics_written_after_a_line_cut_short_stay_readable(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.path.write_text('{"step": 1}\n{"st')
    metrics.add({"step": 2})
    assert list(metrics) == [{"step": 1}, {"step": 2}]


def test_metrics_hold_no_nan(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        metrics.add({"loss": float("nan")})
    assert list(metrics) == []


def test_a_stage_is_done_once_its_marker_is_written(tmp_path):
    run = Run(tmp_path / "run")
    assert run.done("2-prune") is None
    run.at("2-prune").mkdir(parents=True)
    (run.at("2-prune") / "masks.safetensors").write_bytes(b"")
    assert run.done("2-prune") is None
    run.finish("2-prune", {"kept": 10})
    assert run.done("2-prune") == {"kept": 10}
    assert run.done("1-pretrain") is None


def test_the_environment_is_json_and_names_the_versions():
    record = environment(torch.device("cpu"))
    assert json.loads(json.dumps(record)) == record
    assert (record["harp"], record["torch"]) == (VERSION, torch.__version__)
    assert record["device"] == "cpu"
    assert record["gpu"] is None


def test_one_process_at_a_time_works_in_a_folder(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    first.claim()
    first.claim()
    with pytest.raises(HarpError, match="another process is at work"):
        second.claim()
    first.release()
    second.claim()


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "a\0b", ".hidden"])
def test_a_name_that_leads_to_another_folder_is_none(name):
    with pytest.raises(HarpError, match="an attack cannot be called"):
        file_word("an attack", name)
    assert file_word("an attack", "apgd-t v2.1") == "apgd-t v2.1"


def test_nothing_is_written_where_another_folder_took_this_ones_place(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    first.claim()
    first.finish("1-pretrain", {"kept": 1})
    shutil.rmtree(first.folder)
    for begin in (lambda: None, second.claim):
        begin()
        for write in (
            lambda: first.finish("2-prune", {"kept": 1}),
            lambda: save_tree(first.at("2-prune") / "checkpoint.safetensors", {"step": 1}),
            lambda: remove(first.at("2-prune") / "checkpoint.safetensors"),
            lambda: Metrics(first.at("2-prune") / "metrics.jsonl").add({"step": 1}),
            first.claim,
        ):
            with pytest.raises(HarpError, match=r"run was moved, deleted or begun anew while this process worked in"):
                write()
        assert not first.at("2-prune").exists()
    first.release()
    second.finish("2-prune", {"kept": 2})
    assert second.done("2-prune") == {"kept": 2}


def test_a_folder_moved_away_is_not_made_again(tmp_path):
    run = Run(tmp_path / "run")
    run.claim()
    run.folder.rename(tmp_path / "moved")
    with pytest.raises(HarpError, match="was moved, deleted or begun anew"):
        run.finish("2-prune", {})
    assert not run.folder.exists()


def test_a_folder_let_go_or_forgotten_is_written_in_freely(tmp_path):
    for name, leave in (("released", Run.release), ("forgotten", lambda run: None)):
        run = Run(tmp_path / name)
        run.claim()
        shutil.rmtree(run.folder)
        leave(run)
        del run
        Run(tmp_path / name).finish("2-prune", {"kept": 1})


def test_a_lock_that_leads_elsewhere_is_refused(tmp_path):
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(HarpError, match=r"cannot write .*lock"):
        Run(tmp_path / "run").claim()
    assert (tmp_path / "theirs").read_text() == "precious"


@pytest.mark.parametrize("name", ["3-finetune", "evaluation/finetuned"])
def test_a_folder_inside_that_leads_elsewhere_is_refused(tmp_path, name):
    (tmp_path / "theirs").mkdir()
    place = tmp_path / "run" / name
    place.parent.mkdir(parents=True)
    place.symlink_to(tmp_path / "theirs")
    with pytest.raises(HarpError, match=rf"{name} is a link"):
        Run(tmp_path / "run").claim()
    place.unlink()
    (tmp_path / "here").symlink_to(tmp_path / "run")
    Run(tmp_path / "here").claim()
