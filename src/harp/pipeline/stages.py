"""The order of the stages, and the rule that the same command runs, resumes, and does nothing."""

from collections.abc import Callable, Sequence

import torch

from harp.pipeline import measure, train
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.report import REPORT

STAGES: dict[str, Callable[[Workspace], None]] = {
    "pretrain": train.pretrain,
    "prune": train.prune,
    "finetune": train.finetune,
    "evaluate": measure.evaluate,
    "export": measure.export,
    "report": measure.report,
}


def run_stages(work: Workspace, names: Sequence[str] = tuple(STAGES)) -> None:
    """The named stages are done: finished ones are skipped, begun ones resumed.

    `names` in the order of `STAGES`. A stage that begins from a `source` of its own makes those before it unnecessary,
    and a whole run then leaves them out.
    """
    # Every operation here has a deterministic form on the CPU; on a GPU some only warn.
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory with NaN would cost time and change nothing.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    wanted = [name for name in names if name not in _unnecessary(work, names)]
    work.check_recipe()
    missing = [name for name in wanted if not is_done(work, name)]
    if "prune" in missing:
        train.check_budget(work)
    try:
        for name in missing:
            work.display.say(f"{name} ...")
            STAGES[name](work)
    finally:
        work.run.release()


def is_done(work: Workspace, name: str) -> bool:
    """Whether the stage has ended in this run's folder."""
    if name == "report":
        return (work.run.folder / REPORT).exists()
    return work.run.done(FOLDERS["evaluation" if name == "evaluate" else name]) is not None


def _unnecessary(work: Workspace, names: Sequence[str]) -> set[str]:
    if len(names) == 1:
        return set()
    if work.recipe.finetune.source:
        return {"pretrain", "prune"}
    return {"pretrain"} if work.recipe.prune.source else set()
