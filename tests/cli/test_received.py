"""A run's folder that somebody sent: nothing it names runs, or is fetched, unless who got it asks for that."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
import yaml

import harp.own
from harp.cli import main
from harp.errors import HarpError
from harp.networks.named import load_model
from harp.package import read, write
from harp.stages import run_stages
from tests.tiny import workspace

NET = """
from pathlib import Path
from torch import nn

with open("ran.txt", "a") as file:
    file.write("x")

def make(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""
SHORT = {"epochs": 1}
QUICK = ("--engine", "harp", "--attacks", "rand", "--images", "10", "--doubts", "0", "--folder", "record")
FLAG = "net.py:make, code that you have not run before; look at it, and then say --trust, or name it yourself"
OWN = ("--model.name", "net.py:make")


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """A folder with net.py and a run of it, all stages."""
    folder = tmp_path_factory.mktemp("sent")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "net.py").write_text(NET)
        stages = {"pretrain": SHORT, "prune": {**SHORT, "method": "magnitude"}, "finetune": SHORT}
        evaluation = {"attacks": ["fgsm"], "doubts": 0}
        made = workspace(folder / "run", model={"name": "net.py:make", "width": 1.0}, evaluation=evaluation, **stages)
        run_stages(made)
    return folder


@pytest.fixture
def here(sent, tmp_path, monkeypatch):
    """The same, with somebody who never ran it, in a process of his own."""
    shutil.copytree(sent, tmp_path / "here")
    (tmp_path / "here" / "ran.txt").unlink()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(harp.own, "_LOADED", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path / "here"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    return capsys.readouterr().err


def forget(run):
    """Nothing in the folder tells any more that its recipe was edited: who sends it can see to that."""
    for marker in run.glob("*/done.json"):
        told = json.loads(marker.read_text())
        marker.write_text(json.dumps({name: value for name, value in told.items() if name != "recipe"}))


def ran(here):
    return (here / "ran.txt").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "run"),
        ("report", "run"),
        ("finetune", "run"),
        ("plan", "run"),
        ("evaluate", "run", *QUICK),
        ("export", "run/3-finetune/model.safetensors", "--out", "out.safetensors"),
        ("bench", "run", "--no-memory"),
    ],
)
def test_code_that_a_folder_names_is_refused_in_one_sentence(here, capsys, arguments):
    said = refused(capsys, *arguments)
    assert FLAG in said
    assert said.count("\n") == 1
    assert not ran(here)


@pytest.mark.parametrize("asked", [("--trust",), OWN])
def test_whoever_asks_for_it_gets_it_and_is_not_asked_again(here, capsys, asked):
    main(["evaluate", "run", *QUICK, *asked])
    assert ran(here)
    main(["evaluate", "run", *QUICK])
    main(["run", "run"])
    (here / "net.py").write_text(f"{NET}\nMORE = 1\n")
    (here / "run" / "sources.json").unlink()  # a sender can leave out what would tell an edit
    assert FLAG in refused(capsys, "run", "run")


def test_a_run_made_here_by_a_recipe_of_ones_own_is_opened_as_ever(here):
    (here / "mine.yaml").write_text((here / "run" / "recipe.yaml").read_text())
    shutil.rmtree(here / "run")
    main(["run", "mine.yaml", "--folder", "run"])
    assert ran(here)
    main(["evaluate", "run", *QUICK])
    main(["run", "run"])


def test_no_code_is_needed_to_compare_and_to_watch(here):
    main(["compare", "run"])
    main(["watch", "run", "--once"])
    assert not ran(here)


def test_verify_runs_no_code_of_a_folder_even_where_it_ran_before(here, capsys):
    package = "run/export/package.safetensors"
    main(["evaluate", "run", *QUICK, "--trust"])
    (here / "ran.txt").unlink()
    harp.own._LOADED.clear()
    capsys.readouterr()
    main(["verify", package])
    said = capsys.readouterr().out
    assert said.count("ok ") == 4
    assert "not compared with its source: " in said
    assert "run names net.py:make, which is neither run nor fetched here; name it yourself" in said
    assert "--source run names net.py:make" in refused(capsys, "verify", package, "--source", "run")
    assert not ran(here)
    main(["verify", package, *OWN])
    assert capsys.readouterr().out.count("ok ") == 7
    assert ran(here)


def test_verify_needs_neither_method_nor_objective_nor_plugin_of_a_folder(here, capsys):
    recipe = yaml.safe_load((here / "run" / "recipe.yaml").read_text())
    forget(here / "run")
    recipe["prune"]["method"], recipe["prune"]["options"] = "net.py:Method", {}
    recipe["finetune"]["objective"], recipe["plugins"] = "net.py:Loss", ["net.py"]
    recipe["model"]["name"] = "digits_cnn"
    (here / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    assert "holds the weights of another model" in refused(capsys, "verify", "run/export/package.safetensors")
    assert not ran(here)


def test_a_hub_that_a_folder_names_is_not_asked(here, capsys, monkeypatch):
    recipe = yaml.safe_load((here / "run" / "recipe.yaml").read_text())
    recipe["data"]["name"] = "hub:somebody/images"
    forget(here / "run")
    (here / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    monkeypatch.setattr("harp.data.hub._download", lambda *_: 1 / 0)
    said = refused(capsys, "evaluate", "run", *QUICK, *OWN)
    assert "run names hub:somebody/images, on a hub and not fetched by you before; look at it" in said
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", "run", *QUICK, *OWN, "--trust"])


@pytest.mark.parametrize("name", ["hub:somebody/images", "net.py:images", "no_such_images"])
def test_a_package_says_of_what_images_it_is_and_they_are_not_fetched(here, capsys, monkeypatch, name):
    package = read("run/export/package.safetensors")
    told = {**package.manifest.provenance, "data": {"name": name}}
    write("p.safetensors", package.graph, replace(package.manifest, provenance=told), "fp32")
    monkeypatch.setattr("harp.data.hub._download", lambda *_: 1 / 0)
    said = refused(capsys, "evaluate", "p.safetensors", *QUICK)
    assert f"p.safetensors says that its images are {name}, which " in said
    assert f"--data.name {name} asks for them" in said
    assert not ran(here)
    main(["evaluate", "p.safetensors", "--data.name", "digits", *QUICK])
    main(["bench", "p.safetensors", "--rounds", "1", "--batch", "1", "--no-memory"])


def test_load_model_asks_for_a_word_of_its_own(here):
    with pytest.raises(HarpError, match=r"net\.py:make, code that you have not run before; .* say trust=True"):
        load_model("run")
    assert not ran(here)
    assert not load_model("run", trust=True).training
    assert load_model("run") is not None
