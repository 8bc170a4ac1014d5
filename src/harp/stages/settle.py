"""The end of the prune stage: masks that meet the budget, channels really removed, and a record of who kept what."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from harp.config import Planned, PruneSettings, pruning
from harp.errors import HarpError
from harp.modes import evaluating
from harp.pipeline.workspace import Workspace
from harp.pruners import Moment, Pruner, SearchWarning
from harp.runs import save_tree, write_json
from harp.sparsity import Budget, ChannelUnits, Masks, Units, allocation, allot, remove
from harp.written import Allocation, SiteShare

# Removing channels changes the order in which float32 sums are taken; 1e-5 of the largest logit is far above that.
TOLERANCE = 1e-5


def settle(
    work: Workspace, stage: Planned, model: nn.Module, units: Units, pruner: Pruner
) -> tuple[nn.Module, list[str]]:
    """The pruned network, smaller where channels went, and what is worth a note; writes the records."""
    record, notes = pruner.record(Moment(0)), pruner.notes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the notes say it
        masks = pruner.settle()
    folder = work.run.at(stage.folder)
    save_tree(folder / "masks.safetensors", dict(masks if units.kind == "channels" else units.by_site(masks)))
    save_tree(folder / "learned.safetensors", pruner.state_dict())
    shared = _shared_out(units, pruning(work.recipe, stage), work.budget(pruning(work.recipe, stage)), masks, record)
    write_json(folder / "allocation.json", asdict(shared))
    images, _ = next(iter(work.in_order(work.split.train, 64).once()))
    logits = _logits(model, images)
    if float((logits - logits[:1]).abs().max()) <= TOLERANCE * float(logits.abs().max()):
        notes = [*notes, f"the pruned network gives all of {len(images)} training images the same logits"]
    return (_shrunk(model, units, masks, images) if isinstance(units, ChannelUnits) else model), notes


def _shared_out(
    units: Units, settings: PruneSettings, budget: Budget, masks: Masks, record: Mapping[str, Any]
) -> Allocation:
    """How the budget was shared out; `record` is what the method told of its search."""
    cost, kept = units.cost(budget.of), masks.counts
    price, total = round(cost([kept[name] for name in units.names])), cost(units.sizes)
    even, rates = allot(units, budget, allocation("uniform", units)), record.get("rates") or {}
    return Allocation(
        method=settings.method,
        granularity=units.kind,
        of=budget.of,
        keep=budget.keep,
        budget=budget.count(total),
        price=price,
        total=round(total),
        density_before=record.get("density", price / total),
        sites=tuple(
            SiteShare(name, size, kept[name], even[name], rates.get(name))
            for name, size in zip(units.names, units.sizes, strict=True)
        ),
    )


def _shrunk(model: nn.Module, units: ChannelUnits, masks: Masks, images: Tensor) -> nn.Module:
    """The network without its masked channels, checked to give the logits it gave with them."""
    small = remove(model, units.groups, masks)
    whole, left = _logits(model, images), _logits(small, images)
    distance = float((whole - left).abs().max() / whole.abs().max().clamp(min=1e-12))
    if not distance <= TOLERANCE:
        raise HarpError(f"removing the masked channels changed the logits by {distance:.1e} of the largest")
    return small


@torch.no_grad()
def _logits(model: nn.Module, images: Tensor) -> Tensor:
    with evaluating(model):
        logits: Tensor = model(images)
    return logits
