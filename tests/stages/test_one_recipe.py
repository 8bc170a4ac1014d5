"""A folder is one run: a recipe edited or deleted, a file swapped, a folder begun anew are not passed over."""

import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file, save_file

from harp.cli import main
from harp.errors import HarpError
from harp.runs import Run, read_json, write_json
from harp.stages import run_stages
from harp.training import Tracker
from tests.tiny import TINY, workspace

TRAINING = ["pretrain", "prune", "finetune"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    run_stages(workspace(folder))
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def edit(folder, section, **settings):
    path = folder / "recipe.yaml"
    values = yaml.safe_load(path.read_text())
    values[section].update(settings)
    path.write_text(yaml.safe_dump(values))


COMMANDS = {
    "run": ["run", "run"],
    "report": ["report", "run"],
    "evaluate": ["evaluate", "run", "--images", "4", "--attacks", "fgsm", "--doubts", "0", "--folder", "record"],
    "a file": ["evaluate", "run/2-prune/model.safetensors", "--attacks", "fgsm", "--folder", "record"],
    "export": ["export", "run", "--out", "package.safetensors"],
    "compare": ["compare", "run", "run"],
    "bench": ["bench", "run", "--rounds", "1", "--no-memory"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_takes_old_results_for_those_of_an_edited_recipe(copy, tmp_path, monkeypatch, capsys, command):
    edit(copy, "threat", eps=0.3)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(COMMANDS[command])
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert "recipe.yaml was edited: run/1-pretrain was made with {'eps': 0.1} as threat, and it says" in told
    assert len(told.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"run"}


def test_a_deleted_recipe_makes_no_other_run_of_what_is_there(copy):
    (copy / "recipe.yaml").unlink()
    run_stages(workspace(copy))
    with pytest.raises(HarpError, match="run/1-pretrain was begun with another setting of threat"):
        run_stages(workspace(copy, threat={"eps": 0.3}))
    with pytest.raises(HarpError, match="run/evaluation was begun with another setting of evaluation"):
        run_stages(workspace(copy, evaluation={"restarts": 1}))
    with pytest.raises(HarpError, match="run/export was begun with another setting of export"):
        run_stages(workspace(copy, export={"values": "fp16"}))


def test_a_run_of_an_earlier_version_is_read_and_goes_on(copy, finished):
    for marker in copy.rglob("done.json"):
        told = read_json(marker)
        write_json(marker, {name: value for name, value in told.items() if name not in ("recipe", "files")})
    shutil.rmtree(copy / "3-finetune")
    run_stages(workspace(copy))
    name = "3-finetune/model.safetensors"
    assert (copy / name).read_bytes() == (finished / name).read_bytes()
    assert "recipe" in read_json(copy / "3-finetune" / "done.json")
    assert "recipe" not in read_json(copy / "2-prune" / "done.json")


def at_checkpoint(monkeypatch, folder, number, act):
    """Runs the training stages; `act` comes right before the checkpoint of that number is made."""
    made, state = [], Tracker._state

    def acting(self, step):
        made.append(step)
        if len(made) == number:
            act()
        return state(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "_state", acting)
        run_stages(workspace(folder), TRAINING)


class Killed(BaseException):
    pass


def kill():
    raise Killed


@pytest.mark.parametrize("recipe", ["edited", "deleted"])
def test_a_stage_cut_short_goes_on_under_no_other_settings(tmp_path, monkeypatch, recipe):
    with pytest.raises(Killed):
        at_checkpoint(monkeypatch, tmp_path / "run", 2, kill)
    (tmp_path / "run" / "recipe.yaml").unlink()
    with pytest.raises(HarpError, match="run/1-pretrain was begun with another setting of pretrain"):
        run_stages(workspace(tmp_path / "run", pretrain={"lr": 0.1}), TRAINING)
    if recipe == "edited":
        (tmp_path / "run" / "recipe.yaml").write_text(json.dumps({**TINY, "pretrain": {**TINY["pretrain"], "lr": 0.1}}))
        with pytest.raises(HarpError, match=r"recipe.yaml was edited: .*run/1-pretrain was made with"):
            run_stages(workspace(tmp_path / "run"), TRAINING)


def test_a_stage_that_goes_on_under_other_threads_says_so(tmp_path, monkeypatch, finished):
    folder = tmp_path / "run"
    with pytest.raises(Killed):
        at_checkpoint(monkeypatch, folder, 2, kill)
    for name in ("environment.json", "1-pretrain/begun.json"):
        told = read_json(folder / name)
        told.get("environments", [told])[0]["threads"] = 99
        write_json(folder / name, told)
    run_stages(workspace(folder), ["pretrain"])
    notes = read_json(folder / "1-pretrain" / "done.json")["notes"]
    assert [note.partition(" ")[0] for note in notes] == ["it"]
    assert notes[0].startswith("it ran under threads ")
    assert not (folder / "1-pretrain" / "begun.json").exists()
    assert read_json(finished / "1-pretrain" / "done.json")["notes"] == []


def test_a_folder_begun_anew_stops_the_run_that_was_at_work_there(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    other = Run(folder)

    def begin_anew():
        shutil.rmtree(folder)
        other.claim()
        other.at("1-pretrain").mkdir()
        (other.at("1-pretrain") / "done.json").write_text("{}")

    with pytest.raises(HarpError, match="run was moved, deleted or begun anew while this process worked in it"):
        at_checkpoint(monkeypatch, folder, 2, begin_anew)
    assert sorted(path.name for path in folder.rglob("*")) == [".lock", "1-pretrain", "done.json"]
    assert other.done("1-pretrain") == {}
    other.release()


def test_a_source_that_was_swapped_is_refused(finished, tmp_path):
    source = tmp_path / "dense.safetensors"
    shutil.copy(finished / "1-pretrain" / "model.safetensors", source)
    sections = {"prune": {"source": str(source)}}
    run_stages(workspace(tmp_path / "run", **sections), ["prune"])
    tensors = load_file(source)
    next(iter(tensors.values())).mul_(2)
    save_file(tensors, source)
    with pytest.raises(HarpError, match=r"dense.safetensors is not the file that .*run/2-prune was begun with"):
        run_stages(workspace(tmp_path / "run", **sections))
