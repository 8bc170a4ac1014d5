"""One tiny network under all runners: what is measured, what is compared, what is left out and told."""

import sys
from dataclasses import replace

import pytest
import torch

from harp.bench import Plan, Subject, bench, runners, subjects
from harp.config import make_recipe
from harp.errors import HarpError
from harp.export import pack
from harp.networks.named import Network, dense_of
from harp.pipeline.display import Display
from harp.runs import save_tree
from tests.tiny import tiny

QUICK = Plan(batches=(1, 3), rounds=2, memory=False)


@pytest.fixture
def subject(tmp_path):
    return Subject(tiny(device="cpu", threads=1).model_dump(mode="json"), None, tmp_path)


def measured(subject, whole=None, plan=QUICK):
    return bench(subject, whole, plan, Display())


def test_every_runner_gives_the_logits_and_takes_its_turn(subject):
    found = measured(subject)
    assert found["left_out"] == {}
    assert {"torch", "cpu", "onnxruntime", "openvino"} <= set(found["environment"])
    assert list(found["batches"]) == ["1", "3"]
    assert found["baselines"] == ["torch eager", "torch frozen", "ONNX Runtime", "OpenVINO f32"]
    for batch, rows in found["batches"].items():
        assert list(rows) == ["harp", *found["baselines"]]
        for name, row in rows.items():
            assert row["difference"] < 1e-5
            assert 0 < row["wall"]["p10"] <= row["wall"]["median"] < 1
            assert row["images_per_second"] == pytest.approx(int(batch) / row["wall"]["median"])
            assert len(row["samples"]["cpu"]) == 2
            assert set(row["times_faster"]) == set(found["baselines"]) - {name}
        ratio, cpu = rows["harp"]["times_faster"]["ONNX Runtime"], "cpu"
        pairs = zip(rows["ONNX Runtime"]["samples"][cpu], rows["harp"]["samples"][cpu], strict=True)
        assert sorted(a / b for a, b in pairs) == pytest.approx([ratio["low"], ratio["high"]])
    sizes = found["sizes"]
    assert sizes["state_dict"] == (subject.folder / "model.safetensors").stat().st_size > 4 * 2660
    assert set(sizes) == {"package", "state_dict", "onnx"}


def test_a_missing_runner_is_named_with_what_would_install_it(subject, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = measured(subject, plan=replace(QUICK, batches=(1,), rounds=1))
    assert "pip install 'harp-pruning[bench]'" in found["left_out"]["OpenVINO f32"]
    assert "OpenVINO f32" not in found["batches"]["1"]
    assert "OpenVINO f32" not in found["baselines"]


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
