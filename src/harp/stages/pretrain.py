"""The dense network, adversarially trained."""

from harp.pipeline.workspace import Workspace
from harp.pruners import Pruner
from harp.stages.training import train


def pretrain(work: Workspace) -> None:
    """1-pretrain/model.safetensors: the dense network, adversarially trained."""
    settings = work.recipe.pretrain
    model = work.loaded(settings.source) if settings.source else work.model()
    train(work, "pretrain", settings, model, Pruner(work.sites(model)), lambda model, pruner: (model, []))
