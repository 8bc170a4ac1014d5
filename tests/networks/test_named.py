import shutil

import pytest
import torch

from harp import load_model
from harp.errors import HarpError
from harp.networks.named import find_network, is_network
from harp.stages import run_stages
from tests.tiny import workspace

FACTORY = """
from torch import nn
def make(classes, channels, size):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("networks") / "run"
    run_stages(workspace(folder, pretrain={"epochs": 1}, prune={"epochs": 1}, finetune={"epochs": 1}), ("pretrain",))
    return folder


def test_what_names_a_network(run):
    names = [str(run), "a/b.safetensors", "net.py:make", "timm:resnet10t", "hf:folder", "digits_cnn"]
    assert all(is_network(name) for name in names)
    assert not any(is_network(name) for name in ("digits", "mine.yaml", "cifar10-small"))


def test_a_run_and_its_file_bring_their_settings_along(run):
    file = run / "1-pretrain" / "model.safetensors"
    for name in (str(run), str(file)):
        found = find_network(name)
        assert found.weights == file
        assert found.settings["threat"]["eps"] == 0.1
        assert found.settings["model"]["width"] == 0.125
        assert "evaluation" not in found.settings
        assert found.label == "run-1-pretrain"


def test_a_model_is_loaded_in_eval_mode(run):
    model = load_model(str(run))
    assert not model.training
    again = load_model(str(run / "1-pretrain" / "model.safetensors"))
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(model(x), again(x))


def test_a_factory_takes_weights_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(FACTORY)
    from safetensors.torch import save_file

    weight, bias = torch.rand(10, 64), torch.rand(10)
    save_file({"1.weight": weight, "1.bias": bias}, tmp_path / "w.safetensors")
    model = load_model("net.py:make", weights="w.safetensors", dataset="digits")
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(model(x), x.flatten(1) @ weight.T + bias)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("gone.safetensors", None, "no file gone.safetensors"),
        ("empty", None, "holds no network"),
        ("a.safetensors", "b.safetensors", "is a file of weights"),
        ("lone.safetensors", None, "lies in no run"),
    ],
)
def test_what_is_no_network_is_refused(tmp_path, monkeypatch, run, name, weights, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    shutil.copy(run / "1-pretrain" / "model.safetensors", tmp_path / "lone.safetensors")
    with pytest.raises(HarpError, match=message):
        load_model(name, weights)
