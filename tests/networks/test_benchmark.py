import json
import math

import pytest
import torch
from torch import nn

import harp
from harp.attacks import AttackWarning
from harp.errors import HarpError
from tests.evaluation.defences import network


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clean_and_robust_accuracy_of_any_callable(here):
    model = network("dense")
    clean, robust = harp.benchmark(
        lambda x: model(x),
        n_examples=24,
        dataset="digits",
        eps="8/255",
        engine="harp",
        doubts=0,
        aa_state_path="record",
    )
    assert 0.5 < robust <= clean <= 1
    result = json.loads((here / "record" / "result.json").read_text())
    assert result["threat"]["eps"] == "8/255"
    assert (result["measures"]["clean"]["accuracy"], result["robust"]) == (clean, robust)
    again = harp.benchmark(
        lambda x: model(x),
        n_examples=24,
        dataset="digits",
        eps="8/255",
        engine="harp",
        doubts=0,
        aa_state_path="record",
    )
    assert again == (clean, robust)


def test_a_leaderboards_entry_keeps_what_was_written_by_hand(here):
    path = here / "model_info" / "digits" / "Linf" / "mine.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"authors": "Somebody", "link": None}))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    numbers = harp.benchmark(
        model, 12, "digits", eps=0.031, to_disk=True, model_name="mine", version="rand", engine="harp", doubts=0
    )
    entry = json.loads(path.read_text())
    assert entry["authors"] == "Somebody"
    assert entry["eps"] == "0.031"
    assert (entry["clean_acc"], entry["autoattack_acc"]) == tuple(f"{100 * number:.2f}" for number in numbers)
    assert set(entry["harp"]["measures"]) == {"clean", "apgd-ce", "apgd-dlr", "worst"}
    assert entry["harp"]["environment"]["torch"] == torch.__version__


def test_a_doubt_takes_the_numbers_place():
    model = nn.Sequential(network("dense"), nn.Softmax(1))
    with pytest.warns(AttackWarning, match="softmax-outputs"):
        clean, robust = harp.benchmark(model, 24, "digits", eps=0.02, version="rand", engine="harp", doubts=24)
    assert clean > 0.5
    assert math.isnan(robust)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "eps: expected a number in pixel units"),
        ({"eps": 0.1, "threat_model": "linf"}, "did you mean 'Linf'"),
        ({"eps": 0.1, "n_examples": 100_000}, "expected 1 to the 449 test images"),
        ({"eps": 0.1, "to_disk": True}, "needs a model_name"),
        ({"eps": 0.1, "to_disk": True, "model_name": "../../x"}, "model_name cannot be called '../../x'"),
        ({"eps": 8}, "did you mean 8/255"),
        ({"eps": "8 of 255"}, "threat.eps"),
        ({"eps": 0.1, "acknowledge": ("nothing",)}, "no doubt 'nothing'"),
    ],
)
def test_mistakes_are_refused(wrong, message):
    with pytest.raises(HarpError, match=message):
        harp.benchmark(nn.Flatten(), **{"n_examples": 4, "dataset": "digits", **wrong})
