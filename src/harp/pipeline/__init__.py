"""A recipe as stages: pretrain, prune, finetune, evaluate, export, report."""

from harp.pipeline.stages import STAGES, run_stages
from harp.pipeline.workspace import Workspace, default_folder

__all__ = ["STAGES", "Workspace", "default_folder", "run_stages"]
