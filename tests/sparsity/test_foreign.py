"""Exact budgets on networks nobody here wrote."""

import pytest
import torch

from harp.pruners import Masked
from harp.sparsity import Budget, Masks, find_sites, top_mask, uniform

from ..foreign import FOREIGN, images


@pytest.mark.parametrize("keep", [0.1, 0.01])
@pytest.mark.parametrize("name", FOREIGN)
def test_nine_architectures_reach_the_budget_to_the_weight_and_still_run(name, keep):
    model = FOREIGN[name]().eval()
    sites = find_sites(model)
    total = sum(site.size for site in sites)
    counts = uniform(sites, Budget(keep))
    masks = Masks({site.name: top_mask(site.param.abs(), counts[site.name]) for site in sites})
    Masked(sites, masks).push(0)

    weights = [model.state_dict()[name] for name in masks]
    assert sum(int(weight.count_nonzero()) for weight in weights) == masks.kept == round(keep * total)
    assert total > 0.9 * sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        assert model(images()).isfinite().all()
