"""The package a run ends with: what it says, what it was judged by, and what becomes of a network that has none."""

import json

import pytest
import torch

from harp.config import plan
from harp.errors import HarpError
from harp.export import load, verify
from harp.networks.named import find_network, load_model
from harp.networks.packing import Origin, origin, pack_network, sentences
from harp.runs import file_digest, read_json
from harp.stages import export as export_stage, run_stages
from harp.threats import Threat
from tests.tiny import workspace

# A network that is often right, and broken here and there: only such a one can be judged otherwise.
ABLE = {
    "data": {"train": 800},
    "model": {"width": 0.25},
    "pretrain": {"epochs": 6},
    "prune": {"keep": 0.3},
    "finetune": {"lr": 0.05},
    "evaluation": {"attacks": ["fgsm", "pgd"], "doubts": 0, "batch_size": 25},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packing") / "run"
    run_stages(workspace(folder, **ABLE, export={"onnx": True}))
    return folder


def test_the_package_is_judged_point_by_point_by_the_images_on_record(run):
    results = read_json(run / "evaluation" / "results.json")["models"]["finetuned"]
    manifest = read_json(run / "export" / "manifest.json")
    judged = manifest["package"]["judged"]
    assert 0.3 < results["worst"]["accuracy"] < results["clean"]["accuracy"]
    broken = sum(round(60 * (results["clean"]["accuracy"] - results[name]["accuracy"])) for name in ("fgsm", "pgd"))
    assert judged["compared"] == 60 + broken > 60
    assert judged["different"] == 0
    for name in ("clean", "fgsm", "pgd", "worst"):
        assert judged["measures"][name]["accuracy"] == results[name]["accuracy"]
    assert manifest["onnx"]["difference"] < 1e-4
    assert (run / "export" / "model.onnx").stat().st_size == manifest["onnx"]["bytes"]


def test_the_package_tells_where_it_comes_from(run):
    deployed, said = load(run / "export" / "package.safetensors"), read_json(run / "export" / "manifest.json")
    about = deployed.manifest
    assert about.name == "digits_cnn"
    assert deployed.classes == tuple("0123456789")
    assert deployed.threat == Threat(eps=0.1)
    assert about.counts is not None
    assert (about.counts.weights, about.counts.nominal) == (said["total"], said["kept"])
    assert about.counts.budget == round(0.3 * said["total"]) == said["kept"]
    assert 0 < about.counts.effective == said["package"]["counts"]["effective"]
    assert about.provenance["source"]["sha256"] == file_digest(run / "export" / "model.safetensors")
    assert about.provenance["data"]["name"] == "digits"
    assert about.evaluation["judged"] == said["package"]["judged"]
    assert about.evaluation["measures"]["pgd"]["n"] == 60
    assert str(run.parent) not in json.dumps([dict(about.evaluation), dict(about.provenance), about.name])


def test_the_package_passes_its_checks(run):
    assert all(check.passed for check in verify(run / "export" / "package.safetensors"))


def test_rounding_is_measured_by_the_same_images(run, tmp_path):
    work = workspace(run, **ABLE, export={"values": "int8"})
    found = origin(run, run / "export" / "model.safetensors", plan())
    made = pack_network(work, load_model(str(run)), tmp_path / "small.safetensors", found)
    assert made["values"] == "int8"
    assert made["judged"]["compared"] > 60
    assert made["bytes"] < read_json(run / "export" / "manifest.json")["package"]["bytes"]
    said = list(sentences(tmp_path / "small.safetensors", made))
    assert f"{made['judged']['different']:,} of {made['judged']['compared']:,} verdicts differ" in said[1]


def test_a_network_without_a_record_is_packed_without_a_verdict(run, tmp_path):
    work = workspace(run, **ABLE)
    model = load_model(str(run / "1-pretrain" / "model.safetensors"))
    made = pack_network(work, model, tmp_path / "dense.safetensors", Origin())
    assert made["judged"] is None
    assert made["counts"]["nominal"] == made["counts"]["budget"] <= made["counts"]["weights"]
    assert len(list(sentences(tmp_path / "dense.safetensors", made))) == 1
    assert origin(run, run / "1-pretrain" / "model.safetensors", plan()).record is None


def test_a_package_is_a_network_by_its_own_words(run, tmp_path):
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes((run / "export" / "package.safetensors").read_bytes())
    found = find_network(str(lone))
    assert found.settings["data"] == {"name": "digits"}
    assert found.settings["threat"] == {"norm": "inf", "eps": 0.1}
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(load_model(str(lone))(x), load(lone)(x))
    assert torch.allclose(load_model(str(run))(x), load(lone)(x), atol=1e-5)


def test_a_network_that_cannot_be_packed_is_exported_all_the_same_and_says_so(tmp_path, monkeypatch):
    def refusing(*_):
        raise HarpError("an operator nobody knows")

    monkeypatch.setattr(export_stage, "pack_network", refusing)
    short = {name: {"epochs": 1} for name in ("pretrain", "prune", "finetune")}
    run_stages(workspace(tmp_path, **short, evaluation={"attacks": ["fgsm"], "doubts": 0}))
    assert read_json(tmp_path / "export" / "done.json")["notes"] == ["no package: an operator nobody knows"]
    assert "package" not in read_json(tmp_path / "export" / "manifest.json")
    assert "an operator nobody knows" in (tmp_path / "report.md").read_text()
