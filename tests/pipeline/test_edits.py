import sys

import pytest

from harp.errors import HarpError
from harp.networks.named import find_network
from harp.pipeline.edits import Sources, check_sources, own_sources
from harp.runs import read_json
from harp.stages import run_stages
from tests.tiny import workspace

NET = """
import widths
from torch import nn

def make(classes, channels, size):
    n = channels * size * size
    return nn.Sequential(nn.Flatten(), nn.Linear(n, widths.WIDTH), nn.ReLU(), nn.Linear(widths.WIDTH, classes))
"""
SHORT = {"epochs": 1, "checkpoint_every": "1it"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "widths", raising=False)  # as in a process of its own
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "widths.py").write_text("WIDTH = 16\n")
    return tmp_path


def work(folder, *edited):
    stages = {"pretrain": SHORT, "prune": SHORT, "finetune": SHORT, "evaluation": {"doubts": 0}}
    made = workspace(folder, model={"name": "net.py:make", "width": 1.0}, **stages)
    made.sources.edited = edited
    return made


def test_each_stage_records_the_sources_it_was_made_of(here):
    run_stages(work(here / "run"), ("pretrain",))
    now = own_sources("net.py:make")
    assert now is not None
    assert list(now) == ["net.py", "widths.py"]
    assert read_json(here / "run" / "1-pretrain" / "done.json")["environment"]["sources"] == now
    assert read_json(here / "run" / "environment.json")["sources"] == now


@pytest.mark.parametrize("name", ["net.py", "widths.py"])
def test_an_edit_between_stages_is_refused_until_it_is_acknowledged(here, name):
    run_stages(work(here / "run"), ("pretrain",))
    before = own_sources("net.py:make")
    assert before is not None
    (here / name).write_text((here / name).read_text() + "\nMORE = 1\n")
    with pytest.raises(HarpError, match=rf"^{name} was edited since .*run used it.*--edited"):
        run_stages(work(here / "run"), ("prune",))
    assert not (here / "run" / "2-prune").exists()
    run_stages(work(here / "run", name), ("prune",))
    done = read_json(here / "run" / "2-prune" / "done.json")
    assert f"{name} was edited after this run began; --edited said that it may go on" in done["notes"]
    assert done["environment"]["sources"][name] != before[name]
    run_stages(work(here / "run"), ("finetune",))
    assert any(name in note for note in read_json(here / "run" / "3-finetune" / "done.json")["notes"])


def test_edits_add_up(here):
    run_stages(work(here / "run"), ("pretrain",))
    for name in ("widths.py", "net.py"):
        (here / name).write_text((here / name).read_text() + "\nMORE = 1\n")
        Sources(here / "run", ["net.py:make"], [name]).record()
    assert read_json(here / "run" / "sources.json") == {
        "files": own_sources("net.py:make"),
        "edited": ["net.py", "widths.py"],
    }


def test_a_comment_is_no_edit(here):
    run_stages(work(here / "run"), ("pretrain",))
    (here / "net.py").write_text("# ours\n" + NET)
    run_stages(work(here / "run"), ("prune",))
    assert not any("edited" in note for note in read_json(here / "run" / "2-prune" / "done.json")["notes"])


def test_an_edit_within_a_stage_is_refused_when_it_is_resumed(here, monkeypatch):
    from harp.training import Tracker

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "select", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_stages(work(here / "run"), ("pretrain",))
    assert (here / "run" / "1-pretrain" / "checkpoint.safetensors").exists()
    (here / "widths.py").write_text("WIDTH = 16 + 0\n")
    with pytest.raises(HarpError, match=r"widths\.py was edited"):
        run_stages(work(here / "run"), ("pretrain",))


def test_an_edit_before_anything_was_made_is_none(here):
    work(here / "run").open()
    (here / "widths.py").write_text("WIDTH = 16 + 0\n")
    again = work(here / "run")
    again.open()
    assert read_json(here / "run" / "sources.json") == {"files": own_sources("net.py:make"), "edited": []}


def test_a_finished_run_of_an_edited_network_is_not_loaded(here):
    run_stages(work(here / "run"), ("pretrain",))
    assert find_network(str(here / "run")).weights is not None
    (here / "widths.py").write_text("WIDTH = 16 + 0\n")
    file = here / "run" / "1-pretrain" / "model.safetensors"
    with pytest.raises(HarpError, match=rf"widths\.py was edited.*net\.py:make with --weights {file}"):
        find_network(str(here / "run"))
    assert find_network("net.py:make", file).weights == file


def test_a_name_that_is_no_source_is_refused(here):
    run_stages(work(here / "run"), ("pretrain",))
    with pytest.raises(HarpError, match=r"--edited nett\.py: net\.py:make is not made of it; did you mean 'net\.py'"):
        run_stages(work(here / "run", "nett.py"), ("prune",))


def test_networks_that_come_with_harp_have_no_sources(tmp_path):
    assert own_sources("digits_cnn") is None
    assert own_sources("timm:resnet10t") is None
    assert check_sources(tmp_path, ["digits_cnn"], "") == []
    work = workspace(tmp_path / "run")
    work.open()
    assert not (tmp_path / "run" / "sources.json").exists()
    assert work.environment()["sources"] is None


def test_a_folder_of_hugging_face_is_its_configuration(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert list(own_sources(f"hf:{tmp_path}") or ()) == ["config.json"]


@pytest.mark.parametrize("text", ["null", "[]", '{"files": []}', '{"files": {"net.py": 1}}', '{"edited": "net.py"}'])
def test_a_record_of_another_shape_is_named(here, text):
    (here / "sources.json").write_text(text)
    with pytest.raises(HarpError, match=r"sources\.json is no record of sources"):
        check_sources(here, ["net.py:make"], "")
