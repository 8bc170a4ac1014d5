"""The weights that are left, trained on under masks that stay."""

from collections.abc import Callable

from harp.config import Planned, pruning, tuning
from harp.errors import HarpError
from harp.pipeline.workspace import Workspace
from harp.pruners import METHODS, Masked, Pruner, options_of
from harp.sparsity import Masks, Sites
from harp.stages.files import last_cut, masks_in, masks_of, weights_before
from harp.stages.training import train


def finetune(work: Workspace, stage: Planned) -> None:
    """3-finetune/model.safetensors: the weights that were left, trained on under their fixed masks."""
    path = weights_before(work, stage)
    if path is None:
        raise HarpError(f"{stage.name} comes first and has nothing to train on; name a safetensors file with --source")
    settings = tuning(work.recipe, stage)
    if settings.rewind and work.channels:
        raise HarpError("finetune.rewind: channels are gone for good; a ticket is one of weights (prune.granularity)")
    model = work.model() if settings.rewind else work.loaded(path, small=True)
    sites, masks = work.sites(model), masks_of(work, stage)
    # Without masks channels are gone: what is left trains as any dense network does.
    pruner = Pruner(sites) if masks is None else _tuner(work, stage)(sites, masks_in(masks, sites))
    train(work, stage, settings, model, pruner, lambda model, pruner: (model, []))


def _tuner(work: Workspace, stage: Planned) -> Callable[[Sites, Masks], Pruner]:
    """What trains under masks as the method that made them wants it; masks from elsewhere are no method's."""
    settings, cut = tuning(work.recipe, stage), last_cut(work, stage)
    if settings.masks or settings.source or cut is None:
        return Masked
    made = pruning(work.recipe, cut)
    return METHODS[made.method].tuned(options_of(made.method, made.options)) or Masked
