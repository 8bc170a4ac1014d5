"""An attack in a file of the user's own, through `harp evaluate`: recorded, judged and refused like any other."""

import json

import pytest

from harp.cli import main
from tests.cli.test_evaluate import refused

ATTACKS = """
from dataclasses import dataclass
import torch

@dataclass(frozen=True)
class Shove:
    steps: int
    layer: str = "0"
    gradient_free = True

    def __call__(self, model, x, y, threat, noise):
        model.get_submodule(self.layer)
        best = x
        for step in range(self.steps):
            signs = noise.at(step).uniform(x.shape[1:], -1, 1).to(x).sign()
            tried = threat.project(x + threat.eps * signs, x)
            wrong = model(tried).argmax(1) != y
            best = torch.where(wrong[:, None, None, None], tried, best)
        return best

def make(steps=1):
    return Shove(steps)

def needs(alpha):
    return Shove(alpha)

def nothing():
    return None

def beyond():
    return lambda model, x, y, threat, noise: x + 2 * threat.eps

def smaller():
    return lambda model, x, y, threat, noise: x[:, :, 1:]
"""
ASKED = ("digits_cnn", "--weights", "random", "--model.width", "0.25", "--threat.eps", "0.3", "--images", "40")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(ATTACKS)
    return tmp_path


def evaluate(attacks, *more):
    main(["evaluate", *ASKED, "--attacks", attacks, "--folder", "record", *more])


def test_it_runs_beside_others_with_the_settings_it_takes(here, capsys):
    evaluate("mine.py:make,fgsm", "--steps", "5", "--doubts", "0")
    result = json.loads((here / "record" / "result.json").read_text())
    assert result["attacks"]["make"] == "Shove(steps=5, layer='0')"
    assert {"clean", "make", "fgsm", "worst"} == result["measures"].keys()
    assert result["broken_by"]["make"] > 0
    assert "make" in capsys.readouterr().out


def test_what_is_on_record_is_not_repeated_and_never_meets_edited_code(here, capsys):
    evaluate("mine.py:make", "--doubts", "0")
    before = {path.name: path.stat().st_mtime_ns for path in (here / "record").glob("make-*")}
    evaluate("mine.py:make", "--doubts", "0")
    assert {path.name: path.stat().st_mtime_ns for path in (here / "record").glob("make-*")} == before
    (here / "mine.py").write_text(ATTACKS.replace("threat.eps * signs", "threat.eps * signs * 0.9"))
    said = refused(capsys, "evaluate", *ASKED, "--attacks", "mine.py:make", "--folder", "record", "--doubts", "0")
    assert "record of another code, of Shove.__call__" in said


@pytest.mark.parametrize("free", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_one_without_gradients_that_wins_over_attacks_by_gradient_raises_a_doubt(here, free):
    (here / "mine.py").write_text(ATTACKS.replace("gradient_free = True", f"gradient_free = {free}"))
    weak = ("--steps", "40", "--step", "1e-9", "--restarts", "1")
    evaluate("mine.py:make,pgd", "--doubts", "16", *weak)
    doubts = json.loads((here / "record" / "result.json").read_text())["doubts"]
    told = [doubt["sentence"] for doubt in doubts if doubt["name"] == "black-box-wins"]
    assert any("make breaks" in sentence for sentence in told) == free


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("needs", "attack 'mine.py:needs' cannot be made (TypeError: needs() missing 1 required"),
        ("nothing", "attack 'mine.py:nothing' makes None"),
        ("gone", "no function or class 'gone' in mine.py"),
        ("beyond", "left the threat by 0.6"),
        ("smaller", ", 1, 7, 8]; expected float32 ["),
    ],
)
def test_mistakes_end_in_one_clear_error(capsys, name, words):
    said = refused(capsys, "evaluate", *ASKED, "--attacks", f"mine.py:{name}", "--folder", "record", "--doubts", "0")
    assert words in said
