"""Budgets so small that a search cuts the network through: with `connect` every class is reached, at the same price."""

import json

import pytest
import torch
from safetensors.torch import load_file

from harp.errors import HarpError
from harp.pipeline import Workspace
from harp.sparsity import Flow
from harp.stages import run_stages
from tests.tiny import tiny, workspace


def reached(work: Workspace, folder) -> torch.Tensor:
    masks = load_file(folder / "2-prune" / "masks.safetensors")
    model = work.model()
    flow = Flow(model, work.sites(model), torch.rand(1, 1, 8, 8))
    return flow.reach({site.name: masks[site.name].double() for site in work.sites(model)}) > 0


@pytest.mark.parametrize("method", ["hydra", "magnitude", "feather"])
def test_every_class_is_reached_at_the_same_budget(tmp_path, method):
    kept = {}
    for connect in (False, True):
        settings = {"method": method, "keep": 0.02, "floor": 0, "connect": connect}
        work = workspace(tmp_path / str(connect), prune=settings)
        run_stages(work, ["pretrain", "prune", "finetune"])
        kept[connect] = json.loads((tmp_path / str(connect) / "2-prune" / "allocation.json").read_text())["price"]
        assert bool(reached(work, tmp_path / str(connect)).all()) == connect
    done = json.loads((tmp_path / "True" / "2-prune" / "done.json").read_text())
    assert any("weights were swapped for paths" in note for note in done["notes"])
    assert kept[True] == kept[False]
    masks = load_file(tmp_path / "True" / "2-prune" / "masks.safetensors")
    weights = load_file(tmp_path / "True" / "2-prune" / "model.safetensors")
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())


def test_units_of_many_weights_are_refused():
    with pytest.raises(HarpError, match="connect swaps single weights, and granularity is channels"):
        tiny(prune={"connect": True, "granularity": "channels", "keep": 0.5})
