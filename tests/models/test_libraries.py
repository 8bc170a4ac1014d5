import re
import sys
from pathlib import Path

import pytest
import torch

import harp
from harp.errors import HarpError
from harp.models import build

COLOUR = {"classes": 10, "channels": 3, "size": 32}


def made(name, seed=0, **options):
    torch.manual_seed(seed)
    return build(name, **{**COLOUR, **options})


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("timm:test_resnet", "ResNet", {}),
        ("timm:test_resnet", "ResNet", {"channels": 1, "size": 28, "classes": 7}),
        ("timm:test_vit", "VisionTransformer", {}),  # of a fixed image size, which is 160 unless it is told
        ("torchvision:squeezenet1_1", "SqueezeNet", {}),
        ("torchvision:mobilenet_v3_small", "MobileNetV3", {"classes": 7, "size": 40}),
        ("torchvision:shufflenet_v2_x0_5", "ShuffleNetV2", {}),
    ],
)
def test_networks_come_as_they_are_for_the_data_at_hand(name, kind, options):
    asked = {**COLOUR, **options}
    model = made(name, **options)
    assert type(model).__name__ == kind
    assert model.training
    with torch.no_grad():
        logits = model(torch.rand(2, asked["channels"], asked["size"], asked["size"]))
    assert logits.shape == (2, asked["classes"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_auxiliary_heads_are_left_out():
    model = made("torchvision:googlenet")
    assert isinstance(model(torch.rand(2, 3, 32, 32)), torch.Tensor)
    assert not [name for name in model.state_dict() if name.startswith("aux")]


@pytest.mark.parametrize("name", ["timm:test_resnet", "torchvision:squeezenet1_1"])
def test_the_callers_seed_decides_the_weights(name):
    first, again, other = (dict(made(name, seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert not all(torch.equal(value, other[key]) for key, value in first.items())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("timm:resnet10", {}, "no model 'timm:resnet10'; did you mean 'resnet10t'"),
        ("timm:resnet10t.c3_in1k", {}, "did you mean 'resnet10t'"),
        ("torchvision:mobilenetv3_small", {}, "did you mean 'mobilenet_v3_small'"),
        ("torchvision:fcn_resnet50", {}, "no model"),
        ("torchvision:squeezenet1_1", {"channels": 1}, "takes images of 3 channels, and these have 1"),
        ("torchvision:squeezenet1_1", {"size": 8}, "fails on images of 3 x 8 x 8"),
        ("torchvision:vit_b_32", {"size": 40}, "cannot be made: AssertionError: Input shape indivisible"),
        ("timm:test_resnet", {"width": 0.5}, "takes no width, so width 0.5 would change nothing"),
    ],
)
def test_a_mistake_is_named(name, options, message):
    with pytest.raises(HarpError, match=message):
        made(name, **options)


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    prefix = "hf" if library == "transformers" else library
    with pytest.raises(HarpError, match=rf"needs {library}; install it with pip install 'harp-pruning\[{library}\]'"):
        made(f"{prefix}:resnet18")


@pytest.mark.parametrize("library", ["timm", "torchvision", "transformers"])
def test_no_file_imports_a_library_that_may_be_missing(library):
    for path in Path(harp.__file__).parent.rglob("*.py"):
        assert not re.search(rf"^\s*(import|from) {library}\b", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("place", ["hf-hub:somebody/net", "hf_hub:somebody/net", "local-dir:here"])
def test_a_name_of_timm_leads_to_no_hub_and_no_folder(place, monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *_, **__: 1 / 0)
    with pytest.raises(HarpError, match=f"no model 'timm:{place}'"):
        made(f"timm:{place}")
