"""The example package: installed into a folder, listed, and run through every stage by its names alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
NAMES = {
    "methods": "random-weights",
    "objectives": "clean-and-attacked",
    "attacks": "corners",
    "data": "stripes",
    "models": "two-layers",
    "doubts": "one-class",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The environment of a process that finds the package, and the folder it stands in."""
    place = tmp_path_factory.mktemp("plugin")
    # Copied, since building leaves files beside the sources.
    shutil.copytree(EXAMPLE, place / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place / "site"), str(place / "source")], check=True)
    paths = [str(place / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, place


def harp(installed, *words):
    environment, place = installed
    done = subprocess.run(
        [sys.executable, "-m", "harp", *words], cwd=place, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_is_listed_with_its_first_line(installed):
    listed = harp(installed, "list", *NAMES)
    for kind, name in NAMES.items():
        assert any(line.split()[:2] == [kind, name] for line in listed.splitlines())


def test_a_run_of_nothing_but_the_package(installed):
    epochs = [word for stage in ("pretrain", "prune", "finetune") for word in (f"--{stage}.epochs", "1")]
    names = ("--data.name", "stripes", "--model.name", "two-layers", "--prune.method", "random-weights")
    how = ("--pretrain.objective", "clean-and-attacked", "--prune.options.draw", "3", "--evaluation.attacks", "corners")
    quick = ("--attack.steps", "1", "--evaluation.doubts", "16")
    harp(
        installed, "run", *names, *how, *epochs, *quick, "--prune.keep", "0.2", "--threat.eps", "0.1", "--folder", "run"
    )
    run = installed[1] / "run"
    budget = json.loads((run / "2-prune" / "allocation.json").read_text())
    assert budget["price"] == round(0.2 * (64 * 32 + 32 * 2))
    measures = json.loads((run / "evaluation" / "results.json").read_text())["models"]["finetuned"]
    assert measures["corners"]["n"] == 64
    assert measures["clean"]["accuracy"] >= measures["corners"]["accuracy"] == measures["worst"]["accuracy"]
