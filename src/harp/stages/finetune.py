"""The weights that are left, trained on under masks that stay."""

from harp.config import Planned, tuning
from harp.errors import HarpError
from harp.pipeline.workspace import Workspace
from harp.pruners import Masked, Pruner
from harp.stages.files import masks_in, masks_of, weights_before
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
    sites = work.sites(model)
    # Channels are gone by now: what is left trains as any dense network does.
    pruner = Pruner(sites) if work.channels else Masked(sites, masks_in(masks_of(work, stage), sites))
    train(work, stage, settings, model, pruner, lambda model, pruner: (model, []))
