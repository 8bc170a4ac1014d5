import copy

import numpy
import pytest
import torch
from safetensors.torch import save_file

import harp
from harp.errors import HarpError
from harp.export import Deployed, is_package, load, pack
from harp.package import Manifest
from harp.threats import Threat
from tests.attacks.linear import images
from tests.export.test_bake import pruned

THREAT = Threat(eps=0.1)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("deployed") / "small.safetensors"
    pack(pruned()[0], images(4), path, manifest=Manifest(classes=("a", "b", "c"), threat=THREAT))
    return path


def test_tensors_for_tensors_and_arrays_for_arrays(path):
    model, deployed, x = pruned()[0], load(path), images(7)
    assert torch.allclose(deployed(x), model(x), atol=1e-6)
    assert torch.equal(deployed(x.double()), deployed(x))
    assert torch.equal(deployed(x.to(memory_format=torch.channels_last)), deployed(x))
    for dtype in (numpy.float32, numpy.float64):
        logits = deployed(x.numpy().astype(dtype))
        assert isinstance(logits, numpy.ndarray)
        assert logits.dtype == numpy.float32
        assert numpy.array_equal(logits, deployed(x).numpy())
    assert torch.allclose(deployed.module(x), model(x), atol=1e-6)


def test_what_the_file_says_is_at_hand(path):
    deployed = harp.load(path, threads=1)
    assert isinstance(deployed, Deployed)
    assert deployed.classes == ("a", "b", "c")
    assert deployed.threat == THREAT
    assert deployed.graph.shape == (1, 2, 2)
    assert not deployed.training
    assert not list(deployed.parameters())


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (torch.rand(1, 2, 2), r"one image of shape \[1, 2, 2\]; expected a batch: x\[None\]"),
        (torch.rand(2, 3, 2, 2), r"images of shape \[2, 3, 2, 2\]; this network takes \[n, 1, 2, 2\]"),
        (torch.rand(2, 1, 2, 3), r"this network takes \[n, 1, 2, 2\]"),
        (
            torch.zeros(2, 1, 2, 2, dtype=torch.uint8),
            "images are uint8; expected floating point from 0 to 1; bytes",
        ),
        (torch.zeros(2, 1, 2, 2, dtype=torch.int64), "images are int64; expected floating point from 0 to 1$"),
        (torch.rand(2, 1, 2, 2, requires_grad=True), "has no gradients; attack the network it was made from"),
    ],
)
def test_other_images_are_refused(path, x, words):
    with pytest.raises(HarpError, match=words):
        load(path)(x)


def test_arrays_are_refused_as_tensors_are(path):
    with pytest.raises(HarpError, match="images are uint8"):
        load(path)(numpy.zeros((2, 1, 2, 2), numpy.uint8))


def test_an_evaluation_knows_it_by_its_seal(path, tmp_path):
    state = load(path).state_dict()
    assert state["seal"].shape == (32,)
    pack(pruned()[0], images(4), tmp_path / "other.safetensors")
    assert not torch.equal(state["seal"], load(tmp_path / "other.safetensors").state_dict()["seal"])
    batches = [(images(4), torch.zeros(4, dtype=torch.int64))]
    found = harp.evaluate(load(path), batches, {"square": harp.Square(queries=5)}, THREAT)
    assert set(found.flags) == {"clean", "square", "worst"}
    with pytest.raises(HarpError, match="has no gradients"):
        harp.evaluate(
            load(path), [(x, load(path)(x).argmax(1)) for x, _ in batches], {"pgd": harp.PGD(steps=2)}, THREAT
        )


def test_a_copy_answers_alike(path):
    deployed = load(path)
    assert torch.equal(copy.deepcopy(deployed)(images(3)), deployed(images(3)))


def test_what_is_no_package_is_told_from_one(path, tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "state.safetensors")
    assert is_package(path)
    assert not is_package(tmp_path / "state.safetensors")
    assert not is_package(tmp_path / "gone.safetensors")
    assert not is_package(tmp_path)
    with pytest.raises(HarpError, match=r"is no package; a state dictionary is loaded by harp\.load_model"):
        load(tmp_path / "state.safetensors")
    with pytest.raises(HarpError, match="gone"):
        load(tmp_path / "gone.safetensors")
