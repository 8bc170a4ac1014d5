"""Which weights to keep, learned or cut by a method."""

from torch import nn

from harp.pipeline.workspace import Workspace
from harp.pruners import Pruner
from harp.stages.files import dense_weights
from harp.stages.methods import begins_untrained, make_method, steps_needed
from harp.stages.settle import settle
from harp.stages.training import train
from harp.stages.unused import unused_by_method
from harp.training import steps_per_epoch


def prune(work: Workspace) -> None:
    """2-prune: the pruned network, its masks, what was learned, and how the budget was shared out."""
    settings = work.recipe.prune
    model = work.model() if begins_untrained(work.recipe) else work.loaded(dense_weights(work))
    units = work.units(model)
    data = work.batches("prune", settings.batch_size)
    per_epoch = steps_per_epoch(data, work.objective(settings, data))
    pruner = make_method(work, units, per_epoch)

    def finish(model: nn.Module, pruner: Pruner) -> tuple[nn.Module, list[str]]:
        left, notes = settle(work, model, units, pruner)
        return left, [*unused_by_method(settings), *notes]

    train(work, "prune", settings, model, pruner, finish, steps_needed(work.recipe, per_epoch))


def check_budget(work: Workspace) -> None:
    """Raises `HarpError` for a budget or options that the network cannot meet: now, not after hours of pretraining."""
    make_method(work, work.units(work.model()), steps_per_epoch=1)
