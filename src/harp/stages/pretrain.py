"""The dense network, adversarially trained."""

from harp.config import Planned, settings_of
from harp.pipeline.workspace import Workspace
from harp.pruners import Pruner
from harp.stages.files import weights_before
from harp.stages.training import train


def pretrain(work: Workspace, stage: Planned) -> None:
    """1-pretrain/model.safetensors: the dense network, adversarially trained."""
    settings = settings_of(work.recipe, stage)
    path = weights_before(work, stage)
    model = work.loaded(path) if path else work.model()
    train(work, stage, settings, model, Pruner(work.sites(model)), lambda model, pruner: (model, []))
