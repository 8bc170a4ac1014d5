import hashlib

import numpy
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

from harp.errors import HarpError
from harp.export import bake
from harp.models import plain
from harp.pruners import Masked, Moment
from harp.runs import read_json
from harp.sparsity import Masks, find_sites, top_mask
from tests.attacks.linear import images, labels
from tests.export.test_agreement import RANDOM, Odd, remembers

COUNTS = {"0.weight": 5, "4.weight": 3}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3)).eval()


def pruned():
    """A network with running statistics of its own, all weights but `COUNTS` zero, and its masks."""
    model = network()
    model.train()(images(8))
    model.eval()
    sites = find_sites(model)
    masks = Masks({site.name: top_mask(site.param.abs(), COUNTS[site.name]) for site in sites})
    Masked(sites, masks).push(Moment(0))
    return model, masks


def batches():
    return [(images(8), labels(8)), (images(3), labels(3))]


def test_the_files_are_the_model(tmp_path):
    model, masks = pruned()
    manifest = bake(model, masks, tmp_path, batches(), blank=network(seed=1))
    fresh = network(seed=2)
    fresh.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert torch.equal(fresh(images(8)), model(images(8)))
    assert manifest["checked_images"] == 11
    assert manifest["logits_equal"] is True
    stored = safetensors.torch.load_file(tmp_path / "masks.safetensors")
    assert stored.keys() == masks.keys()
    assert all(torch.equal(stored[name], mask) for name, mask in masks.items())


def test_the_manifest_says_what_numpy_counts(tmp_path):
    model, masks = pruned()
    manifest = bake(model, masks, tmp_path, batches())
    weights = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    for name, site in manifest["sites"].items():
        assert site == {"size": weights[name].size, "kept": COUNTS[name]}
        assert numpy.count_nonzero(weights[name]) == COUNTS[name]
    assert manifest["kept"] == 8
    assert manifest["total"] == 28
    data = (tmp_path / manifest["file"]).read_bytes()
    assert manifest["bytes"] == len(data)
    assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
    assert read_json(tmp_path / "manifest.json") == manifest


def test_a_kept_weight_that_is_zero_counts_as_kept(tmp_path):
    model, masks = pruned()
    with torch.no_grad():
        model[4].weight.zero_()
    assert bake(model, masks, tmp_path, batches())["sites"]["4.weight"]["kept"] == 3


@pytest.mark.parametrize("value", [1e-30, float("nan")])
def test_a_weight_outside_its_mask_is_refused(tmp_path, value):
    model, masks = pruned()
    with torch.no_grad():
        model[4].weight[~masks["4.weight"]] = value
    with pytest.raises(HarpError, match=r"^4\.weight has weights outside its mask"):
        bake(model, masks, tmp_path / "export", batches())
    assert not (tmp_path / "export" / "manifest.json").exists()


def test_a_blank_model_that_answers_otherwise_is_refused(tmp_path):
    model, masks = pruned()
    blank = network(seed=1)
    blank[2] = nn.Softplus()
    with pytest.raises(HarpError, match="does not give the logits"):
        bake(model, masks, tmp_path, batches(), blank=blank)
    assert not (tmp_path / "manifest.json").exists()


def test_a_refused_export_leaves_no_manifest_of_another_file(tmp_path):
    model, masks = pruned()
    bake(model, masks, tmp_path, batches())
    with torch.no_grad():
        model[4].bias.add_(1)
    blank = network(seed=1)
    blank[2] = nn.Softplus()
    with pytest.raises(HarpError, match="does not give the logits"):
        bake(model, masks, tmp_path, batches(), blank=blank)
    manifest = tmp_path / "manifest.json"
    data = (tmp_path / "model.safetensors").read_bytes()
    assert not manifest.exists() or read_json(manifest)["sha256"] == hashlib.sha256(data).hexdigest()


def test_the_model_is_left_as_it_was(tmp_path):
    model, masks = pruned()
    model.train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    bake(model, masks, tmp_path, batches())
    assert [module.training for module in model.modules()] == [True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_that_is_random_or_changes_itself_is_not_exported(tmp_path):
    for after, words in ((RANDOM["noise"], "random in eval mode"), (remembers, "changes seen when it is asked")):
        with pytest.raises(HarpError, match=words):
            bake(Odd(after), None, tmp_path, [(torch.ones(8, 4), labels(8))])
    assert not list(tmp_path.iterdir())


def test_batches_may_come_only_once(tmp_path):
    model, masks = pruned()
    assert bake(model, masks, tmp_path, iter(batches()))["checked_images"] == 11


def test_a_file_that_a_networks_hooks_do_not_take_is_told_of(tmp_path):
    model, masks = pruned()
    model.register_load_state_dict_pre_hook(lambda module, state, *_: state.pop("0.weight"))
    with pytest.raises(HarpError, match=r"does not load into a network of the same class: .*0\.weight.*`blank`"):
        bake(model, masks, tmp_path, batches())
    assert not (tmp_path / "manifest.json").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_network_that_does_not_load_its_own_file_is_refused_with_the_way_out(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.utils.spectral_norm(nn.Linear(4, 3))).eval()
    nn.utils.remove_spectral_norm(model[1])
    with pytest.raises(
        HarpError,
        match=r"does not load into a network of the same class: .* computed from others, harp.plain\(model\)$",
    ):
        bake(model, None, tmp_path, batches())
    assert bake(plain(model), None, tmp_path, batches())["logits_equal"]
