"""The weights that are left, trained on under masks that stay."""

from harp.pipeline.workspace import Workspace
from harp.pruners import Masked, Pruner
from harp.stages.files import final_masks, masks_in, previous
from harp.stages.training import train


def finetune(work: Workspace) -> None:
    """3-finetune/model.safetensors: the weights that were left, trained on under their fixed masks."""
    settings = work.recipe.finetune
    model = work.loaded(settings.source or previous(work, "prune"), small=True)
    sites = work.sites(model)
    # Channels are gone by now: what is left trains as any dense network does.
    pruner = Pruner(sites) if work.channels else Masked(sites, masks_in(final_masks(work), sites))
    train(work, "finetune", settings, model, pruner, lambda model, pruner: (model, []))
