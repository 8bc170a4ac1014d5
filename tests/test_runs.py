import json

import pytest
import torch

from harp.errors import HarpError
from harp.runs import Metrics, Run, environment, file_word
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
