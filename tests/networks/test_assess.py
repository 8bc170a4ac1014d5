import json
import math
import shutil
from importlib.metadata import version

import pytest
import torch
from rich.console import Console

from harp.attacks import APGD, FAB, FMN, MALT, PGD, VERSIONS, Cascade, Official, Quick, surrogate
from harp.config import make_recipe
from harp.data import Images, Resident
from harp.errors import HarpError
from harp.evaluation import RESULT
from harp.models import build
from harp.networks.assess import Asked, assess, assess_run
from harp.networks.attacking import attacks_of
from harp.pipeline.display import Display
from harp.runs import load_tree, read_json, save_tree, write_json
from harp.stages import run_stages
from harp.threats import Threat
from tests.tiny import workspace


def settings(**values):
    return make_recipe({"evaluation": values}).evaluation


def test_single_attacks_are_ours_each_with_its_own_settings():
    found = attacks_of(settings(attacks=["pgd", "apgd-ce", "fab"], steps=7, restarts=4), math.inf, 0)
    assert not isinstance(found, Cascade)
    assert found["pgd"] == Quick(PGD(steps=7, restarts=4))
    assert found["apgd-ce"] == Quick(APGD(steps=100, restarts=1, batch=125))
    assert found["fab"] == Quick(FAB(steps=100, restarts=5, batch=125))
    found = attacks_of(settings(attacks=["apgd-pma", "malt", "fmn"], steps=7, restarts=4), math.inf, 0)
    assert found["apgd-pma"] == Quick(APGD("probability-margin", steps=100, restarts=1, batch=125))
    assert found["malt"] == Quick(MALT("dlr", steps=100, restarts=1, targets=9, batch=125))
    assert found["fmn"] == Quick(FMN(steps=100, batch=125))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_is_a_cascade_by_the_engine_asked_for(version):
    for engine in (None, "official"):
        found = attacks_of(settings(attacks=[version], engine=engine), math.inf, 3)
        assert isinstance(found, Cascade)
        assert found == {name: Official(name, version, 3, 125) for name in VERSIONS[version]}
    ours = attacks_of(settings(attacks=[version], engine="harp", bf16=True), math.inf, 3)
    assert isinstance(ours, Cascade)
    assert list(ours) == list(VERSIONS[version])
    assert all(isinstance(attack, Quick) and attack.bf16 for attack in ours.values())


def test_the_package_runs_single_attacks_where_it_has_them():
    found = attacks_of(settings(attacks=["apgd-t", "fab"], engine="official"), math.inf, 0)
    assert found == {"apgd-t": Official("apgd-t", "standard", 0, 125), "fab": Official("fab", "plus", 0, 125)}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"attacks": ["pgd"], "engine": "official"}, "official engine has no attack 'pgd'"),
        ({"attacks": ["standard", "pgd"]}, "standard is a whole evaluation"),
        ({"attacks": ["rand"], "eot": 4}, "rand takes means of 20 answers itself"),
    ],
)
def test_what_cannot_be_attacked_so_is_refused(values, message):
    with pytest.raises(HarpError, match=message):
        attacks_of(settings(**values), math.inf, 0)


def assessed(folder, **values):
    work = workspace(folder / "run", evaluation={"images": 40, "attacks": ["pgd"], "doubts": 20, **values})
    torch.manual_seed(0)
    return assess_run(work, work.model().eval(), folder / "record", "test"), json.loads(
        (folder / "record" / RESULT).read_text()
    )


def test_the_result_says_what_was_done_and_what_came_out(tmp_path):
    outcome, result = assessed(tmp_path)
    assert result["threat"] == {"norm": "inf", "eps": "0.1", "low": 0.0, "high": 1.0}
    assert result["n"] == 40
    assert result["seed"] == 0
    assert result["attacks"]["pgd"].startswith("Quick(attack=PGD(")
    assert result["data"]["name"] == "digits"
    assert (result["data"]["images"], result["data"]["of"]) == (40, 449)
    assert result["data"]["notes"] == [
        "40 of 449 test images were attacked, drawn at random from each class in proportion"
    ]
    assert result["environment"]["torch"] == torch.__version__
    assert set(result["measures"]) == {"clean", "pgd", "worst"}
    assert result["robust"] == outcome.robust
    assert sum(result["broken_by"].values()) == int((~outcome.evaluation.flags["worst"]).sum())
    assert result["examined"] == 20
    assert result["version"]["harp-pruning"] == version("harp-pruning")
    assert result["weights"] == read_json(tmp_path / "record" / "asked.json")["model"]
    assert 0 < result["seconds"] < 600
    assert sum(row["n"] for row in result["classes"].values()) == 40
    for name, flags in outcome.evaluation.flags.items():
        assert sum(row[name] for row in result["classes"].values()) == int(flags.sum())


def test_doubts_that_nobody_asked_for_leave_a_trace(tmp_path):
    _, result = assessed(tmp_path, doubts=0)
    assert result["examined"] == 0
    assert result["measures"]["worst"]["examined"] == 0
    assert "examined" not in assessed(tmp_path)[1]["measures"]["worst"]


def test_a_search_in_bfloat16_is_no_headline(tmp_path):
    outcome, result = assessed(tmp_path, bf16=True)
    assert "bfloat16-search" in [doubt["name"] for doubt in result["doubts"]]
    assert outcome.robust is None
    assert result["measures"]["worst"]["doubts"]


def test_doubts_are_examined_once_and_anew_on_another_sample(tmp_path, monkeypatch):
    assessed(tmp_path)
    calls = []

    def noted(model, x, *rest, **more):
        calls.append(len(x))
        return []

    monkeypatch.setattr("harp.networks.assess.examine", noted)
    assessed(tmp_path)
    assert not calls
    assessed(tmp_path, doubts=30)
    assert calls == [30]


def test_what_decides_no_verdict_costs_no_evaluation(tmp_path, monkeypatch):
    _, first = assessed(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "record").glob("pgd-*")}
    monkeypatch.setattr("harp.attacks.pgd.PGD.__call__", None)  # whoever attacks again would fail
    for more in ({"acknowledge": ["unconverged"]}, {"curve": 4}, {"doubts": 0}):
        _, again = assessed(tmp_path, **more)
        assert again["measures"]["pgd"] == first["measures"]["pgd"]
        assert again["environment"] == first["environment"]
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("doubts.json", lambda path: write_json(path, {**read_json(path), "doubts": []}), "was changed after"),
        ("doubts.json", lambda path: path.unlink(), "is gone"),
        ("result.json", lambda path: write_json(path, {**read_json(path), "robust": 0.9}), "was changed after"),
        ("result.json", lambda path: write_json(path, {"robust": 0.9}), "carries no seal"),
        ("curve.safetensors", lambda path: save_tree(path, {**load_tree(path), "n": 100}), "was changed after"),
        ("pgd-00000.safetensors", lambda path: path.unlink(), "is gone"),
        ("clean-00000.safetensors", lambda path: path.write_bytes(path.read_bytes() + b" "), "was changed after"),
        ("pgd-00007.safetensors", lambda path: save_tree(path, {}), "is no part of"),
    ],
)
def test_a_finished_record_that_was_changed_is_refused(tmp_path, finished, name, change, message):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    change(tmp_path / "record" / name)
    with pytest.raises(HarpError, match=rf"{name} {message}"):
        assessed(tmp_path, curve=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    assessed(folder, curve=4)
    return folder


def test_doubts_of_another_record_are_asked_anew(tmp_path):
    """As of a run that was killed between its doubts and its result, and a doubts.json copied from elsewhere."""
    assessed(tmp_path)
    path = tmp_path / "record" / "doubts.json"
    (tmp_path / "record" / "result.json").unlink()
    before = path.read_bytes()
    write_json(path, {**read_json(path), "record": "0" * 64, "doubts": []})
    assessed(tmp_path)
    assert path.read_bytes() == before


def test_an_unknown_doubt_cannot_be_acknowledged(tmp_path):
    with pytest.raises(HarpError, match="no doubt 'zero-gradient' to acknowledge; did you mean 'zero-gradients'"):
        assessed(tmp_path, acknowledge=["zero-gradient"])


def test_a_security_curve_is_recorded_and_drawn(tmp_path):
    assessed(tmp_path, curve=12)
    record = tmp_path / "record"
    curve = load_tree(record / "curve.safetensors")
    assert curve["n"] == 12
    assert curve["eps"][0] == 0
    assert (curve["accuracy"].diff() <= 0).all()
    assert (record / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (record / "curve.svg").read_text()
    before = (record / "curve.safetensors").stat().st_mtime_ns
    assessed(tmp_path, curve=12)
    assert (record / "curve.safetensors").stat().st_mtime_ns == before


def test_the_nearer_of_two_attacks_images_makes_the_lower_curve(tmp_path):
    curves = {}
    for by in ("fab", "fmn", "both"):
        assessed(tmp_path, curve=12, curve_by=by)
        curves[by] = load_tree(tmp_path / "record" / "curve.safetensors")
        assert curves[by]["by"] == by
    assert not torch.equal(curves["fab"]["eps"], curves["fmn"]["eps"])
    for one in ("fab", "fmn"):
        for eps, accuracy in zip(curves[one]["eps"], curves[one]["accuracy"], strict=True):
            assert curves["both"]["accuracy"][curves["both"]["eps"] <= eps][-1] <= accuracy


def test_a_runs_report_shows_the_curves_of_its_networks(tmp_path):
    short = {"pretrain": {"epochs": 1}, "prune": {"epochs": 1}, "finetune": {"epochs": 1}}
    work = workspace(tmp_path, evaluation={"images": 20, "attacks": ["fgsm"], "doubts": 0, "curve": 8}, **short)
    run_stages(work)
    assert "Robust accuracy against eps" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "evaluation" / "curve.svg").exists()
    assert (tmp_path / "evaluation" / "finetuned" / "result.json").exists()


def test_an_attack_makes_its_surrogate_once_however_many_batches_there_are(monkeypatch):
    made, real = [], surrogate._quick

    def noted(model, example):
        made.append(model)
        return real(model, example)

    monkeypatch.setattr(surrogate, "_quick", noted)
    torch.manual_seed(0)
    model = build("resnet18", classes=3, channels=1, size=8, width=0.125).eval()
    images = Images((torch.rand(40, 1, 8, 8) * 255).to(torch.uint8), torch.arange(40) % 3)
    batches = Resident(images, 10, 0, device="cpu", shuffle=False)
    asked = settings(attacks=["fgsm", "pgd"], steps=2, restarts=1, doubts=0, batch_size=10)
    assess(model, batches, Asked(Threat(eps=0.1), asked, 0, Display(Console(quiet=True)), "it"))
    assert made == [model, model]
