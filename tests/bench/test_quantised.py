"""The eight-bit file: what it computes is what its ranges say, and its weights are bytes."""

import onnx
import pytest
import torch
from torch import nn

from harp import processor
from harp.bench import quantised
from harp.bench.quantised import quantise
from harp.errors import HarpError
from harp.export import onnx_session, to_onnx


def test_a_layer_is_rounded_as_far_as_its_ranges_allow(tmp_path):
    """One linear layer of weights 1 and -1/2 on pixels from 0 to 1, every one of which is met in calibration."""
    layer = nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -0.5, 0, 0], [0, 0, 1.0, 1.0]]))
    model = nn.Sequential(nn.Flatten(), layer).eval()
    images = torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    images[0], images[1] = 0, 1
    to_onnx(model, images[:4], tmp_path / "f32.onnx")
    quantise(tmp_path / "f32.onnx", images, tmp_path / "int8.onnx")
    found = onnx_session(tmp_path / "int8.onnx")(images)
    # A pixel is off by 1/510 at most, a weight by half a step of 1/63 (seven bits), the sum by half of 1/255 its range.
    assert (found - model(images)).abs().max() < 2 * (1 / 510 + 1 / 126) + 2.5 / 510
    assert (found - model(images)).abs().max() > 0
    graph = onnx.load(tmp_path / "int8.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in graph.node}
    kinds = {value.data_type for value in graph.initializer if len(value.dims) == 2}
    assert kinds == {onnx.TensorProto.INT8}


@pytest.mark.parametrize(("there", "reduced"), [({"VNNI": True}, False), ({"VNNI": False}, True), ({}, True)])
def test_weights_take_seven_bits_where_products_of_bytes_would_run_over(there, reduced, monkeypatch, tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    images = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    to_onnx(model, images, tmp_path / "f32.onnx")
    monkeypatch.setattr(processor, "features", lambda: there)
    quantise(tmp_path / "f32.onnx", images, tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    weights = next(onnx.numpy_helper.to_array(value) for value in graph.initializer if len(value.dims) == 2)
    assert abs(weights.astype(int)).max() == (64 if reduced else 127)


def test_what_cannot_be_quantised_is_told_in_a_sentence(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    with pytest.raises(HarpError, match="the network cannot be quantised: "):
        quantise(tmp_path / "broken.onnx", torch.rand(2, 1, 2, 2), tmp_path / "int8.onnx")
    assert not (tmp_path / "int8.onnx").exists()
    assert quantised.CALIBRATION >= 100
