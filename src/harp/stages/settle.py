"""The end of the prune stage: masks that meet the budget, channels really removed, and a record of who kept what."""

import warnings

import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.modes import evaluating
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.pruners import Moment, Pruner, SearchWarning
from harp.runs import save_tree, write_json
from harp.sparsity import ChannelUnits, Masks, Units, allocation, allot, remove

# Removing channels changes the order in which float32 sums are taken; 1e-5 of the largest logit is far above that.
TOLERANCE = 1e-5


def settle(work: Workspace, model: nn.Module, units: Units, pruner: Pruner) -> tuple[nn.Module, list[str]]:
    """The pruned network, smaller where channels went, and what is worth a note; writes the records."""
    record, notes = pruner.record(Moment(0)), pruner.notes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the notes say it
        masks = pruner.settle()
    folder, budget = work.run.at(FOLDERS["prune"]), work.budget
    cost = units.cost(budget.of)
    kept = masks.counts
    price = round(cost([kept[name] for name in units.names]))
    before = record.get("density", price / cost(units.sizes))
    save_tree(folder / "masks.safetensors", dict(masks if units.kind == "channels" else units.by_site(masks)))
    save_tree(folder / "learned.safetensors", pruner.state_dict())
    even = allot(units, budget, allocation("uniform", units))
    rates = record.get("rates", {})
    write_json(
        folder / "allocation.json",
        {
            "method": work.recipe.prune.method,
            "granularity": units.kind,
            "of": budget.of,
            "keep": budget.keep,
            "budget": budget.count(cost(units.sizes)),
            "price": price,
            "total": round(cost(units.sizes)),
            "density_before": before,
            "sites": [
                {"name": name, "size": size, "kept": kept[name], "uniform": even[name], "rate": rates.get(name)}
                for name, size in zip(units.names, units.sizes, strict=True)
            ],
        },
    )
    images, _ = next(iter(work.in_order(work.split.train, 64).once()))
    logits = _logits(model, images)
    if float((logits - logits[:1]).abs().max()) <= TOLERANCE * float(logits.abs().max()):
        notes = [*notes, f"the pruned network gives all of {len(images)} training images the same logits"]
    return (_shrunk(model, units, masks, images) if isinstance(units, ChannelUnits) else model), notes


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
