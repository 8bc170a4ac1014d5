"""Names matched by words or by the order of layers, and refused where neither tells."""

import re

import pytest
import safetensors.torch
import torch
from torch import nn

from harp.errors import HarpError
from harp.models import MODELS
from harp.networks.foreign import read_foreign
from tests.networks.foreign import same


def published(layers, planes):
    """The names of a ResNet as most scripts have them."""

    class Block(nn.Module):
        def __init__(self, inward, outward):
            super().__init__()
            self.conv1 = nn.Conv2d(inward, outward, 3, bias=False)
            self.bn1 = nn.BatchNorm2d(outward)
            self.conv2 = nn.Conv2d(outward, outward, 3, bias=False)
            self.bn2 = nn.BatchNorm2d(outward)
            self.downsample = nn.Sequential()
            if inward != outward:
                self.downsample = nn.Sequential(nn.Conv2d(inward, outward, 1, bias=False), nn.BatchNorm2d(outward))

    model, inward = nn.Module(), planes[0]
    model.conv1, model.bn1 = nn.Conv2d(3, inward, 3, bias=False), nn.BatchNorm2d(inward)
    for number, (depth, outward) in enumerate(zip(layers, planes, strict=True), 1):
        blocks = [Block(inward if index == 0 else outward, outward) for index in range(depth)]
        setattr(model, f"layer{number}", nn.Sequential(*blocks))
        inward = outward
    model.fc = nn.Linear(inward, 10)
    for number, value in enumerate(model.state_dict().values()):
        value.fill_(number)
    return model.state_dict()


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
def test_a_resnet_under_its_usual_names_is_matched_in_order(tmp_path, kind):
    theirs = published((2, 2, 2, 2), (8, 16, 32, 64))
    path = tmp_path / f"resnet.{kind}"
    if kind == "torch":
        torch.save(theirs, path)
    else:
        safetensors.torch.save_file(dict(theirs), path)
    ours = MODELS["resnet18"](classes=10, channels=3, size=32, width=0.125)
    found = read_foreign(path, ours)
    # Both are defined in the order in which images pass, so that the numbers count up.
    assert [int(value.flatten()[0]) for value in found.state.values()] == list(range(len(theirs)))
    (note,) = found.notes
    assert note.startswith("122 of 122 names differ, from conv1.weight = 0.0.weight to fc.bias = 4.bias; ")


def wide(name):
    """A wide ResNet's names in the code that most others began with: three blocks of four layers."""
    head, place, *rest = name.split(".")
    if head == "1":
        block, layer = divmod(int(place), 4)
        return ".".join([f"block{block + 1}.layer.{layer}", *rest]).replace("shortcut", "convShortcut")
    return {"0": "conv1", "2": "bn1", "5": "fc"}[head] + f".{name.rpartition('.')[2]}"


def deep(name):
    return re.sub("^3", "classifier", re.sub("^0", "features", name))


@pytest.mark.parametrize("kind", ["torch", "safetensors"])
@pytest.mark.parametrize(("name", "called"), [("wide_resnet28_4", wide), ("vgg16_bn", deep)])
def test_other_networks_under_their_usual_names(tmp_path, name, called, kind):
    ours = MODELS[name](classes=10, channels=3, size=32, width=0.125)
    state = {own: torch.full_like(value, place) for place, (own, value) in enumerate(ours.state_dict().items())}
    theirs = {called(own): value for own, value in state.items()}
    if kind == "torch":
        torch.save(theirs, tmp_path / "file")
    else:
        safetensors.torch.save_file(theirs, tmp_path / "file")
    assert same(read_foreign(tmp_path / "file", ours).state, state)


def test_layers_that_two_orders_name_differently_are_refused(file):
    ours = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False))
    first, second = torch.zeros(2, 2, 1, 1), torch.ones(2, 2, 1, 1)
    torch.save({"a.weight": first, "b.weight": second}, file)
    assert torch.equal(read_foreign(file, ours).state["1.weight"], second)
    torch.save({"b.weight": second, "a.weight": first}, file)
    with pytest.raises(HarpError, match="another network's"):
        read_foreign(file, ours)


def test_a_file_that_lacks_a_layer_is_refused(file, model, theirs):
    torch.save({name: value for name, value in theirs.items() if "shortcut" not in name}, file)
    with pytest.raises(HarpError, match=r"and 2 more, and lacks shortcut\.0\.weight"):
        read_foreign(file, model)


def test_words_that_contradict_are_refused(file, model, theirs):
    torch.save({name.replace("conv1", "stem"): value for name, value in theirs.items()}, file)
    with pytest.raises(HarpError, match=r"it holds stem\.weight, and the nearest names here are "):
        read_foreign(file, model)


def test_unknown_names_are_told_in_one_sentence(model, file):
    torch.save({f"block{index}.w": torch.zeros(1) for index in range(8)}, file)
    with pytest.raises(HarpError) as error:
        read_foreign(file, model)
    assert "block0.w, block1.w, block2.w, block3.w, block4.w and 3 more, and the" in str(error.value)
    assert str(error.value).endswith("nearest names here are shortcut.0.weight, bn1.weight")
    assert "\n" not in str(error.value)
