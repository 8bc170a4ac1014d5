"""One tiny network under all runners: what is measured, what is compared, what is left out and told."""

import sys
from dataclasses import replace

import openvino
import pytest
import torch

from harp.attacks import PGD
from harp.bench import Plan, Subject, bench, runners, subjects
from harp.config import make_recipe
from harp.data import feed
from harp.errors import HarpError
from harp.evaluation import evaluate, rejudge
from harp.export import onnx_session, pack
from harp.networks.named import Network, dense_of
from harp.pipeline.display import Display
from harp.runs import save_tree
from harp.threats import Threat
from tests.tiny import tiny

QUICK = Plan(batches=(1, 3), rounds=2, memory=False)
DENSE = [name for name, runner in runners.RUNNERS.items() if runner.dense and name != "torch.compile"]
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.fixture
def subject(tmp_path):
    return Subject(tiny(device="cpu", threads=1).model_dump(mode="json"), None, tmp_path)


def measured(subject, whole=None, plan=QUICK):
    return bench(subject, whole, plan, Display())


def test_every_runner_gives_the_logits_and_takes_its_turn(subject):
    found = measured(subject)
    bf16 = [] if BF16 else ["OpenVINO bf16"]
    assert list(found["left_out"]) == bf16
    assert {"torch", "cpu", "onnxruntime", "openvino", "processor"} <= set(found["environment"])
    assert list(found["batches"]) == ["1", "3"]
    assert found["baselines"] == [name for name in DENSE if name not in bf16]
    for batch, rows in found["batches"].items():
        assert list(rows) == ["harp", "harp fp16", *found["baselines"]]
        for name, row in rows.items():
            assert row["difference"] < (0.2 if runners.RUNNERS[name].rounded else 1e-5)
            assert 0 < row["wall"]["p10"] <= row["wall"]["median"] < 1
            assert row["images_per_second"] == pytest.approx(int(batch) / row["wall"]["median"])
            assert len(row["samples"]["cpu"]) == 2
            assert set(row["times_faster"]) == set(found["baselines"]) - {name}
        medians = {name: rows[name]["cpu"]["median"] for name in found["baselines"]}
        assert medians[found["best"][batch]] == min(medians.values())
        ratio, cpu = rows["harp"]["times_faster"]["ONNX Runtime"], "cpu"
        pairs = zip(rows["ONNX Runtime"]["samples"][cpu], rows["harp"]["samples"][cpu], strict=True)
        assert sorted(a / b for a, b in pairs) == pytest.approx([ratio["low"], ratio["high"]])
    sizes = found["sizes"]
    assert sizes["state_dict"] == (subject.folder / "model.safetensors").stat().st_size > 4 * 2660
    assert set(sizes) == {"package", "state_dict", "onnx", "onnx int8"}
    assert sizes["onnx int8"] < sizes["onnx"]
    assert found["judged"] == {}


@pytest.mark.skipif(BF16, reason="this processor has bfloat16")
def test_bfloat16_that_would_be_float32_is_left_out_with_the_reason(subject):
    with pytest.raises(HarpError, match="no bfloat16 here, so OpenVINO would compute in float32 without a word"):
        runners.RUNNERS["OpenVINO bf16"].make(subject, subject.images(1), 1)


def trained(subject: Subject) -> Subject:
    """The same network after forty steps on its training images, so that there is something for an attack to break."""
    model, train = subject.work.model(), subject.work.split.train
    ((x, y),) = feed(train, len(train), 0, device="cpu", shuffle=False).once()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.train()(x), y).backward()
        optimizer.step()
    weights = subject.folder / "trained.safetensors"
    save_tree(weights, dict(model.state_dict()))
    return replace(subject, weights=weights)


def test_every_runner_is_judged_on_the_images_on_record(subject, tmp_path):
    """In float32 as the network itself, in int8 by its own logits: each told what another way of asking tells."""
    subject = trained(subject)
    test, attack, threat = subject.work.split.test, PGD(steps=5, restarts=1), Threat(eps=0.3)
    images = feed(test, len(test), 0, device="cpu", shuffle=False)
    model = subject.model
    evaluate(model, images, {"pgd": attack}, threat, folder=tmp_path / "record")
    found = measured(replace(subject, record=tmp_path / "record"), plan=replace(QUICK, batches=(7,), rounds=1))
    assert set(found["judged"]) == {"harp", "harp fp16", *found["baselines"]}
    own = rejudge(model, images, tmp_path / "record")
    for name in ("harp", "torch eager", "torch frozen", "ONNX Runtime", "OpenVINO f32"):
        row = found["judged"][name]
        assert row["compared"] == own.compared > len(test)
        assert row["different"] == own.different == 0
        assert row["measures"]["worst"]["accuracy"] == own.flags["worst"].double().mean().item()
    (x, y), *_ = images.once()
    session = onnx_session(subject.onnx_int8)
    right = (session(x).argmax(1) == y).double().mean().item()
    assert found["judged"]["ONNX Runtime int8"]["measures"]["clean"]["accuracy"] == pytest.approx(right, abs=0.02)


def test_a_missing_runner_is_named_with_what_would_install_it(subject, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = measured(subject, plan=replace(QUICK, batches=(1,), rounds=1))
    assert "pip install 'harp-pruning[bench]'" in found["left_out"]["OpenVINO f32"]
    assert "OpenVINO f32" not in found["batches"]["1"]
    assert "OpenVINO f32" not in found["baselines"]
    assert "pip install 'harp-pruning[bench]'" in found["left_out"]["OpenVINO int8"]


def test_a_runner_that_fails_in_its_own_way_is_named_too(subject, monkeypatch):
    def failing(subject, x, threads):
        raise KeyError("no kernel\nand a long trace")

    monkeypatch.setitem(runners.RUNNERS, "torch frozen", runners.Runner(failing))
    found = measured(subject, plan=replace(QUICK, batches=(1,), rounds=1))
    assert found["left_out"]["torch frozen"].startswith("KeyError: 'no kernel")
    monkeypatch.setitem(runners.RUNNERS, "harp", runners.Runner(failing, dense=False))
    with pytest.raises(KeyError):
        measured(subject)


def test_a_runner_with_other_logits_is_not_timed(subject, monkeypatch):
    other = runners.Runner(lambda subject, x, threads: lambda x: subject.model(x) * 1.1)
    monkeypatch.setitem(runners.RUNNERS, "torch frozen", other)
    with pytest.raises(HarpError, match="torch frozen gives other logits"):
        measured(subject)


def test_the_network_before_pruning_is_the_baseline_where_channels_went(tmp_path):
    settings = {"granularity": "channels"}
    run = tmp_path / "run"
    recipe = tiny(prune=settings, device="cpu")
    big = Subject(recipe.model_dump(mode="json"), None, tmp_path)
    save_tree(run / "1-pretrain" / "model.safetensors", dict(big.model.state_dict()))
    small = dict(big.model.state_dict())
    small["12.weight"], small["12.bias"] = small["12.weight"][:5], small["12.bias"][:5]
    small["14.weight"] = small["14.weight"][:, :5]
    save_tree(run / "export" / "model.safetensors", small)
    network = Network("run-export", {"prune": settings}, run / "export" / "model.safetensors")
    dense = dense_of(network)
    assert dense is not None
    assert dense.weights == run / "1-pretrain" / "model.safetensors"
    assert dense_of(replace(network, settings={"prune": {"granularity": "weights"}})) is None
    (tmp_path / "files").mkdir()
    found = measured(*subjects(network, recipe, tmp_path / "files"), replace(QUICK, batches=(1,), rounds=1))
    assert "OpenVINO f32, before pruning" in found["baselines"]
    assert set(found["batches"]["1"]["OpenVINO f32"]["times_faster"]) == set(found["baselines"])
    assert found["sizes"]["state_dict before pruning"] > found["sizes"]["state_dict"]


def test_a_package_is_its_own_network(subject, tmp_path):
    path = tmp_path / "shipped.safetensors"
    pack(subject.model, subject.images(4), path)
    packed = Subject({}, path, tmp_path / "files")
    assert packed.shape == (1, 8, 8)
    assert packed.package == path
    assert torch.allclose(packed.model(subject.images(2)), subject.model(subject.images(2)), atol=1e-5)


def test_images_are_the_same_for_everybody(subject):
    x = subject.images(3)
    assert x.shape == (3, 1, 8, 8)
    assert torch.equal(x, Subject(subject.settings, None, subject.folder).images(3))
    assert 0 <= float(x.min()) < float(x.max()) <= 1


def test_a_recipe_of_defaults_describes_a_subject(tmp_path):
    assert Subject(make_recipe({}).model_dump(mode="json"), None, tmp_path).shape == (1, 8, 8)
