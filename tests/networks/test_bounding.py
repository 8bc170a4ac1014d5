"""Test images bound into a folder: resumed batch by batch, refused for others, told with intervals."""

import json

import pytest
import torch

from harp.attacks import PGD
from harp.certify import Bounds
from harp.cli import main
from harp.errors import HarpError
from harp.networks.bounding import bound_run, check
from harp.stages import run_stages
from tests.tiny import workspace


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bounding") / "run"
    short = {name: {"epochs": 1} for name in ("prune", "finetune")}
    stages = ("pretrain", "prune", "finetune", "export")
    run_stages(workspace(folder, threat={"eps": 0.01}, **short), stages)
    return folder


def work(folder, eps=0.01):
    return workspace(folder, evaluation={"images": 20}, threat={"eps": eps})


def trained(run, here):
    return here.loaded(run / "3-finetune" / "model.safetensors").eval()


def test_what_is_proved_no_attack_breaks_and_a_kill_changes_nothing(tmp_path, monkeypatch, run):
    whole = work(tmp_path / "whole", 0.001)
    model = trained(run, whole)
    margins, told = bound_run(whole, model, tmp_path / "whole", "net", batch=6)
    assert told["proved"]["n"] == told["right"]["n"] == 20
    assert 0 < told["proved"]["share"] <= told["right"]["share"]
    x, y = next(whole.in_order(whole.split.test, 20).once())
    held = model(PGD(steps=20)(model, x, y, whole.threat)).argmax(1) == y
    assert held[margins > 0].all()

    begun, count, bound = work(tmp_path / "begun", 0.001), 0, Bounds.margins

    def dying(self, x, y, threat):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return bound(self, x, y, threat)

    with monkeypatch.context() as patch:
        patch.setattr(Bounds, "margins", dying)
        with pytest.raises(KeyboardInterrupt):
            bound_run(begun, model, tmp_path / "begun", "net", batch=6)
    bound_run(begun, model, tmp_path / "begun", "net", batch=6)
    names = sorted(path.name for path in (tmp_path / "whole").glob("bounded-*"))
    assert len(names) == 4
    for name in names:
        assert (tmp_path / "begun" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for other, words in ((work(tmp_path / "begun", 0.002), "another threat"), (begun, "another batch")):
        with pytest.raises(HarpError, match=f"record of {words}"):
            bound_run(other, model, tmp_path / "begun", "net", batch=6 if other is not begun else 7)


def test_an_answer_that_its_proof_denies_is_an_error():
    check(torch.tensor([0.1, -0.1]), torch.tensor([True, False]))
    with pytest.raises(HarpError, match="answers image 1 wrongly, though its bounds prove the right answer"):
        check(torch.tensor([0.1, 0.1]), torch.tensor([True, False]))


def test_the_command_for_a_run_and_for_its_package(tmp_path, monkeypatch, capsys, run):
    monkeypatch.chdir(tmp_path)
    told = []
    for folder, file in (("dense", "model"), ("engine", "package")):
        words = ["certify", str(run / "export" / f"{file}.safetensors"), "--by", "intervals", "--images", "20"]
        main([*words, "--data.name", "digits", "--threat.eps", "0.001", "--folder", folder])
        told.append(json.loads((tmp_path / folder / "bounded.json").read_text()))
    assert told[0]["proved"] == told[1]["proved"]
    assert told[0]["threat"]["eps"] == "0.001"
    out = " ".join(capsys.readouterr().out.split())  # titles are broken to the width of their table
    assert "L-inf, eps 0.001" in out
    assert "n = 20; the robust accuracy lies between the two" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--by", "intervals", "--sigma", "0.25"],
            "--sigma is of proofs by smoothing; intervals are told --threat.eps",
        ),
        ([], "--sigma is missing: the deviation of the noise"),
        (["--by", "intervals", "--threat.norm", "2"], "intervals hold balls of the inf-norm; expected one"),
        (["--by", "interval"], "invalid choice: 'interval'"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(tmp_path, monkeypatch, capsys, run, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["certify", str(run), *words, "--images", "5"])
    assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("bounded*"))
