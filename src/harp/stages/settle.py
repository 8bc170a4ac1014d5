"""The end of the prune stage: masks that meet the budget, channels really removed, and a record of who kept what."""

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from harp.config import Planned, pruning
from harp.errors import HarpError
from harp.modes import evaluating
from harp.pipeline.workspace import Workspace
from harp.pruners import Moment, Pruner, SearchWarning
from harp.runs import save_tree, write_json
from harp.sparsity import Budget, ChannelUnits, Flow, Masks, Sites, Units, allocation, allot, connect, remove
from harp.written import Allocation, SiteShare

# Removing channels changes the order in which float32 sums are taken; 1e-5 of the largest logit is far above that.
TOLERANCE = 1e-5


def settle(
    work: Workspace,
    stage: Planned,
    model: nn.Module,
    units: Units,
    pruner: Pruner,
    before: Mapping[str, Tensor] | None = None,
) -> tuple[nn.Module, list[str]]:
    """The pruned network, smaller where channels went, and what is worth a note; writes the records.

    With the weights `before` the stage, by site, every class is connected with the image by weights of these.
    """
    record, notes = pruner.record(Moment(0)), pruner.notes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the notes say it
        masks = pruner.settle()
    images, _ = next(iter(work.in_order(work.split.train, 64).once()))
    settings = pruning(work.recipe, stage)
    budget = work.budget(settings, units)
    if before is not None:
        masks, more = connected(model, units.sites, masks, before, images[:1], budget.of == "parameters")
        notes += more
    folder = work.run.at(stage.folder)
    save_tree(folder / "masks.safetensors", dict(masks if units.kind == "channels" else units.by_site(masks)))
    save_tree(folder / "learned.safetensors", pruner.state_dict())
    write_json(folder / "allocation.json", asdict(_shared_out(units, settings.method, budget, masks, record)))
    logits = _logits(model, images)
    if float((logits - logits[:1]).abs().max()) <= TOLERANCE * float(logits.abs().max()):
        notes = [*notes, f"the pruned network gives all of {len(images)} training images the same logits"]
    return (shrunk(model, units, masks, images) if isinstance(units, ChannelUnits) else model), notes


@torch.no_grad()
def connected(
    model: nn.Module, sites: Sites, masks: Masks, before: Mapping[str, Tensor], image: Tensor, elsewhere: bool
) -> tuple[Masks, list[str]]:
    """Masks under which every class is reached from an image, and a note on what was swapped for that.

    The model gets, where weights come, those of `before`, and zeros where weights go. Where the budget is too small
    nothing is changed, and the note says so.
    """
    strengths = {
        site.name: torch.where(site.param == 0, before[site.name], site.param).detach().abs() for site in sites
    }
    try:
        with torch.enable_grad():
            made, classes = connect(Flow(model, sites, image), masks, strengths, elsewhere)
    except HarpError as error:
        return masks, [f"nothing was connected: {error}"]
    for site in sites:
        site.param.copy_(torch.where(made[site.name] & ~masks[site.name], before[site.name], site.param))
        site.param.masked_fill_(~made[site.name], 0)
    if not classes:
        return masks, []
    swapped = sum(int((made[name] & ~masks[name]).sum()) for name in masks)
    return made, [
        f"{len(classes)} classes could not be reached from an image: {swapped} weights were swapped for paths"
    ]


def _shared_out(units: Units, method: str, budget: Budget, masks: Masks, record: Mapping[str, Any]) -> Allocation:
    """How the budget was shared out; `record` is what the method told of its search."""
    cost, kept = units.cost(budget.of), masks.counts
    price, total = round(cost([kept[name] for name in units.names])), cost(units.sizes)
    even, rates = allot(units, budget, allocation("uniform", units)), record.get("rates") or {}
    return Allocation(
        method=method,
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
        whole=None if budget.whole is None else round(budget.whole),
    )


def shrunk(model: nn.Module, units: ChannelUnits, masks: Masks, images: Tensor) -> nn.Module:
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
