"""The stages of a recipe, each in the file of its name, and the runner that does them in turn."""

from harp.stages.runner import STAGES, run_stages

__all__ = ["STAGES", "run_stages"]
