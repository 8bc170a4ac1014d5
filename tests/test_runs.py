import json
import os

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from harp.errors import HarpError
from harp.runs import Metrics, Run, environment, file_word, load_tree, read_json, save_tree, write_atomic, write_json
from harp.version import VERSION

keys = st.sampled_from(["a", "b", "conv.weight", "0.bias", "weight"])
plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3), max_leaves=5)
tensors = st.sampled_from(
    [
        torch.tensor(1.5),
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.arange(6.0).view(2, 3).t(),
        torch.tensor([1.0, -0.0], dtype=torch.bfloat16),
        torch.tensor([float("nan"), float("inf")], dtype=torch.float64),
    ]
)
trees = st.recursive(values | tensors, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=12)


def joined(tree, path=()):
    """The dotted name of every tensor in `tree`."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from joined(value, (*path, key))
        elif isinstance(value, torch.Tensor):
            yield ".".join((*path, key))


def same(first, second):
    if isinstance(first, dict):
        return (
            isinstance(second, dict) and first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, torch.Tensor):
        alike = isinstance(second, torch.Tensor) and first.dtype == second.dtype and first.shape == second.shape
        return alike and torch.equal(first.nan_to_num(7), second.nan_to_num(7))
    return type(first) is type(second) and first == second


@given(st.dictionaries(keys, trees, max_size=3))
def test_a_tree_comes_back_as_it_was_saved(tmp_path_factory, tree):
    names = list(joined(tree))
    path = tmp_path_factory.mktemp("tree") / "tree.safetensors"
    if len(set(names)) < len(names):
        with pytest.raises(ValueError, match="two tensors are named"):
            save_tree(path, tree)
    else:
        save_tree(path, tree)
        assert same(load_tree(path), tree)


def test_tensors_that_share_memory_come_back_apart(tmp_path):
    weight = torch.ones(2)
    save_tree(tmp_path / "t", {"first": weight, "second": weight, "part": weight[:1]})
    tree = load_tree(tmp_path / "t")
    tree["first"].zero_()
    assert tree["second"].tolist() == [1, 1]
    assert tree["part"].tolist() == [1]


def test_a_saved_tree_is_a_plain_safetensors_file(tmp_path):
    save_tree(tmp_path / "t", {"model": {"conv.weight": torch.ones(2)}, "step": 3})
    assert safetensors.torch.load_file(tmp_path / "t")["model.conv.weight"].tolist() == [1, 1]


def test_a_foreign_safetensors_file_is_flat(tmp_path):
    safetensors.torch.save_file({"a.b": torch.ones(2)}, tmp_path / "t", metadata={"format": "pt"})
    tree = load_tree(tmp_path / "t")
    assert list(tree) == ["a.b"]
    assert tree["a.b"].tolist() == [1, 1]


def test_a_tree_cut_short_anywhere_is_refused(tmp_path):
    path = tmp_path / "t"
    save_tree(path, {"model": {"weight": torch.ones(2), "bias": torch.ones(1)}, "step": 3})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(HarpError, match="is not a whole safetensors file"):
            load_tree(path)


@pytest.mark.parametrize("header", ["{", "[]", "{}", '{"names": {}}', '{"names": {"w": 3}, "values": {}}'])
def test_a_damaged_header_is_refused(tmp_path, header):
    safetensors.torch.save_file({"w": torch.ones(1)}, tmp_path / "t", metadata={"harp": header})
    with pytest.raises(HarpError, match="is not a whole safetensors file"):
        load_tree(tmp_path / "t")


def test_a_missing_tree_and_a_folder_are_refused(tmp_path):
    with pytest.raises(HarpError, match="no file"):
        load_tree(tmp_path / "none")
    with pytest.raises(HarpError, match="safetensors file"):
        load_tree(tmp_path)


def test_what_is_neither_tensor_nor_json_is_not_saved(tmp_path):
    # A pickle could hold it; then a checkpoint could hold code.
    with pytest.raises(TypeError):
        save_tree(tmp_path / "t", {"thing": object()})
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, call, killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomic(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    write_atomic(tmp_path / "deep" / "file", b"new")
    assert calls == ["fsync", "replace", "fsync"]
    assert (tmp_path / "deep" / "file").read_bytes() == b"new"


def test_json_comes_back(tmp_path):
    write_json(tmp_path / "j", {"a": [1, 0.1, None]})
    assert read_json(tmp_path / "j") == {"a": [1, 0.1, None]}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_holds_no_nan(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "j", {"accuracy": value})
    assert not (tmp_path / "j").exists()


def test_unreadable_json_is_refused(tmp_path):
    with pytest.raises(HarpError, match="no file"):
        read_json(tmp_path / "none")
    (tmp_path / "cut").write_text('{"a": ')
    with pytest.raises(HarpError, match="is not readable JSON"):
        read_json(tmp_path / "cut")


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
