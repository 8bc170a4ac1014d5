import hashlib
import logging
import sys

import onnx
import pytest
import torch
from torch import nn

from harp.errors import HarpError
from harp.export.onnx import onnx_session, to_onnx
from harp.models import Logits
from tests.attacks.linear import images


def network():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3))
    model(images(8))  # running statistics of its own
    return model


def test_the_file_is_the_network_for_any_number_of_images(tmp_path, capfd):
    model, path = network(), tmp_path / "model.onnx"
    found = to_onnx(model, images(4), path)
    data = path.read_bytes()
    assert found["bytes"] == len(data)
    assert found["sha256"] == hashlib.sha256(data).hexdigest()
    assert found["checked_images"] == 4
    assert found["difference"] < 1e-6
    assert model.training
    model.eval()
    for n in (1, 3, 16):
        assert torch.allclose(onnx_session(path)(images(n)), model(images(n)), atol=1e-6)
        assert torch.allclose(onnx_session(data, batch=n)(images(n)), model(images(n)), atol=1e-6)
    assert capfd.readouterr() == ("", "")


def test_the_file_tells_no_path_and_is_the_same_again(tmp_path):
    before = logging.root.manager.disable
    first = to_onnx(network(), images(1), tmp_path / "first.onnx")
    assert to_onnx(network(), images(5), tmp_path / "again.onnx")["sha256"] == first["sha256"]
    data = (tmp_path / "first.onnx").read_bytes()
    assert b".py" not in data
    assert b"site-packages" not in data
    proto = onnx.load_from_string(data)
    assert [value.name for value in proto.graph.input] == ["images"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert logging.root.manager.disable == before


class Switching(nn.Module):
    """Computes otherwise once it is traced."""

    def forward(self, x):
        return x.flatten(1) * (1 if torch.compiler.is_exporting() else 2)


def test_a_file_with_other_logits_is_not_written(tmp_path):
    with pytest.raises(HarpError, match="ONNX Runtime gives other logits"):
        to_onnx(Switching(), images(4), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_traced_is_refused(tmp_path):
    class Deciding(nn.Module):
        def forward(self, x):
            return x.flatten(1) if x.sum() > 0 else -x.flatten(1)

    with pytest.raises(HarpError, match="cannot be written as ONNX"):
        to_onnx(Deciding(), images(4), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(HarpError, match=r"needs onnxscript; install it with pip install 'harp-pruning\[onnx\]'"):
        to_onnx(network(), images(4), tmp_path / "model.onnx")


class Random(nn.Module):
    """Noise that ONNX Runtime draws, too, so that no comparison to a tolerance of its own could tell."""

    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x) + torch.rand_like(self.inner(x))


def test_a_random_network_is_refused(tmp_path):
    with pytest.raises(HarpError, match="answers the same images otherwise the second time"):
        to_onnx(Random(), images(4), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = network()

    def forward(self, x):
        return self.inner(x.view(len(x), 1, 2, 2))


def test_a_network_that_counts_its_images_or_is_wrapped_is_written_for_any_number(tmp_path):
    model = nn.DataParallel(Counting().eval())
    to_onnx(model, images(4), tmp_path / "model.onnx")
    for n in (1, 5):
        assert torch.allclose(onnx_session(tmp_path / "model.onnx")(images(n)), model(images(n)), atol=1e-6)


def test_logits_among_other_answers_are_refused_with_the_way_out(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            features = x.flatten(1)
            return {"features": features, "logits": self.head(features)}

    with pytest.raises(HarpError, match="returns 2 values; expected logits, which harp"):
        to_onnx(Both(), torch.rand(2, 1, 2, 2), tmp_path / "m.onnx")
    found = to_onnx(Logits(Both()), torch.rand(2, 1, 2, 2), tmp_path / "m.onnx")
    assert found["difference"] < 1e-6
