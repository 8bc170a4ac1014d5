"""Which weights to keep, learned or cut by a method."""

from torch import nn

from harp.config import Planned, pruning
from harp.errors import HarpError
from harp.networks.named import untrained
from harp.pipeline.workspace import Workspace
from harp.pruners import Pruner, begins_untrained
from harp.stages.files import weights_before
from harp.stages.methods import make_method, steps_needed
from harp.stages.settle import settle
from harp.stages.training import train
from harp.stages.unused import unused_by_method
from harp.training import steps_per_epoch


def prune(work: Workspace, stage: Planned) -> None:
    """2-prune: the pruned network, its masks, what was learned, and how the budget was shared out."""
    settings = pruning(work.recipe, stage)
    model = _before(work, stage)
    units = work.units(model, settings)
    data = work.batches(stage.name, settings.batch_size)
    per_epoch = steps_per_epoch(data, work.objective(settings, data))
    pruner = make_method(work, settings, units, per_epoch)

    before = {site.name: site.param.detach().clone() for site in units.sites} if settings.connect else None

    def finish(model: nn.Module, pruner: Pruner) -> tuple[nn.Module, list[str]]:
        left, notes = settle(work, stage, model, units, pruner, before)
        return left, [*unused_by_method(settings), *notes]

    train(work, stage, settings, model, pruner, finish, steps_needed(settings, per_epoch, work.recipe.seed))


def _before(work: Workspace, stage: Planned) -> nn.Module:
    """The network that the stage prunes: trained before it, or trained elsewhere, or for some methods not at all."""
    settings = pruning(work.recipe, stage)
    if begins_untrained(settings.method, settings.options):
        return work.model()
    path = weights_before(work, stage)
    if path is not None:
        return work.loaded(path, small=stage.turn > 1)
    if untrained(work):
        raise HarpError(
            f"{stage.name} comes first, and {work.recipe.model.name} has no trained weights; list pretrain before it, "
            "or name a safetensors file with --source"
        )
    return work.model()


def check_budget(work: Workspace, stage: Planned) -> None:
    """Raises `HarpError` for a budget or options that the network cannot meet: now, not after hours of pretraining."""
    settings = pruning(work.recipe, stage)
    make_method(work, settings, work.units(work.model(), settings), steps_per_epoch=1)
