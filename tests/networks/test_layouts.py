"""The masks, scores and normalisation of other people's checkpoints, with numbers that can be checked by hand."""

import pytest
import torch
from torch.nn.utils import prune

from harp.errors import HarpError
from harp.models import Normalised
from harp.networks.foreign import read_foreign
from tests.networks.foreign import Small, prefixed, same


def test_torchs_pruning_keeps_its_masks(model, file):
    other = Small()
    prune.l1_unstructured(other.linear, "weight", amount=6)
    torch.save(other.state_dict(), file)
    found = read_foreign(file, model)
    assert found.masks is not None
    assert found.masks.counts == {"conv1.weight": 2, "shortcut.0.weight": 4, "linear.weight": 2}
    assert torch.equal(found.state["linear.weight"], other.linear.weight)
    assert torch.equal(found.masks["linear.weight"], other.linear.weight != 0)


def scored(state, **rates):
    """HYDRA's layout, and HARP's where there are rates."""
    state = dict(state)
    for layer, size in {"conv1": 2, "shortcut.0": 4, "linear": 8}.items():
        weight = state[f"{layer}.weight"]
        # The last entries have the largest scores, one of them by its absolute value.
        state[f"{layer}.popup_scores"] = torch.arange(1.0, size + 1).view_as(weight) * -1
        if rates:
            state[f"{layer}.k_score"] = torch.tensor(rates[layer.partition(".")[0]])
    return state


def test_hydras_scores_keep_the_same_share_of_each_layer_rounded_up(model, theirs, file):
    torch.save({"state_dict": prefixed("module.", scored(theirs))}, file)
    found = read_foreign(file, model, keep=0.3)
    # ceil of 0.6, 1.2 and 2.4.
    assert found.masks is not None
    assert found.masks.counts == {"conv1.weight": 1, "shortcut.0.weight": 2, "linear.weight": 3}
    assert found.masks["linear.weight"].flatten().tolist() == [False] * 5 + [True] * 3
    assert torch.equal(found.state["linear.weight"], theirs["linear.weight"] * found.masks["linear.weight"])
    assert found.notes == ("HYDRA's scores of 3 layers, at density 0.3",)


def test_harps_rates_tell_each_layers_share(model, theirs, file):
    torch.save(scored(theirs, conv1=9.0, shortcut=0.0, linear=-9.0), file)
    found = read_foreign(file, model, keep=0.5)
    # 0.05 + 0.95 sigmoid(rate): 0.9999 of 2, 0.525 of 4 and 0.0501 of 8, rounded up.
    assert found.masks is not None
    assert found.masks.counts == {"conv1.weight": 2, "shortcut.0.weight": 3, "linear.weight": 1}


def test_harps_channels_are_inputs(model, theirs, file):
    state = scored(theirs, conv1=9.0, shortcut=-1.0, linear=0.0)
    state["linear.popup_scores"] = torch.tensor([[0.5, -1.0]])
    torch.save(state, file)
    found = read_foreign(file, model, keep=0.5)
    assert found.masks is not None
    assert found.masks["linear.weight"].tolist() == [[False, True]] * 4


def test_scores_of_a_network_that_is_still_dense(model, theirs, file):
    torch.save(scored(theirs, conv1=1.0, shortcut=1.0, linear=1.0), file)
    found = read_foreign(file, model, keep=1)
    assert found.masks is None
    assert same(found.state, theirs)


@pytest.mark.parametrize("names", [("normalize.mean", "normalize.std"), ("mu", "sigma"), ("module.mean", "module.std")])
def test_normalisation_goes_in_front(model, theirs, file, names):
    inner = "module.model." if names[0].startswith("module") else "model."
    torch.save(
        {names[0]: torch.full((1, 1, 1, 1), 0.5), names[1]: torch.full((1,), 0.25), **prefixed(inner, theirs)}, file
    )
    found = read_foreign(file, model)
    assert found.statistics == ((0.5,), (0.25,))
    assert isinstance(found.network, Normalised)
    found.network.load_state_dict(dict(found.state))
    assert torch.equal(found.state["model.linear.bias"], theirs["linear.bias"])
    again = read_foreign(file, Normalised(model, [0.5], [0.25]))
    assert same(again.state, found.state)
    with pytest.raises(HarpError, match="leave mean and std to the file"):
        read_foreign(file, Normalised(model, [0.4], [0.25]))


def test_a_network_that_normalises_takes_a_plain_state(model, theirs, file):
    torch.save(theirs, file)
    found = read_foreign(file, Normalised(model, [0.5], [0.25]))
    assert found.statistics is None
    assert found.state["mean"].flatten().tolist() == [0.5]
    found.network.load_state_dict(dict(found.state))


@pytest.mark.parametrize(
    ("change", "keep", "message"),
    [
        ({}, 0.5, "holds no pruning scores"),
        ({"linear.popup_scores": torch.zeros(4, 2)}, 1.5, "keep 1.5: expected a share"),
        (
            {"linear.popup_scores": torch.zeros(1, 2)},
            0.5,
            r"popup_scores is \[1, 2\]; expected the shape of its weight",
        ),
        ({"linear.popup_scores": torch.zeros(4, 2), "conv1.k_score": torch.tensor(0.0)}, 0.5, r"as linear\.k_score"),
        ({"linear.popup_scores": torch.zeros(4, 2), "linear.k_score": torch.tensor(torch.nan)}, 0.5, "one finite"),
        ({"more.popup_scores": torch.zeros(4, 2)}, 0.5, r"more\.popup_scores has no more\.weight"),
    ],
)
def test_scores_that_do_not_fit_are_refused(model, theirs, file, change, keep, message):
    torch.save({**theirs, **change}, file)
    with pytest.raises(HarpError, match=message):
        read_foreign(file, model, keep)


def test_masks_go_by_the_names_of_the_network_that_normalises(model, theirs, file):
    normalises = {"normalize.mean": torch.tensor([0.5]), "normalize.std": torch.tensor([0.25])}
    torch.save({**normalises, **prefixed("model.", scored(theirs))}, file)
    found = read_foreign(file, model, keep=0.5)
    assert found.masks is not None
    assert found.masks.counts == {"model.conv1.weight": 1, "model.shortcut.0.weight": 2, "model.linear.weight": 4}
    assert torch.count_nonzero(found.state["model.linear.weight"]) == 4
