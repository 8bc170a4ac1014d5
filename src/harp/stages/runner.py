"""The order of the stages, and the rule that the same command runs, resumes, and does nothing."""

from collections.abc import Callable, Sequence

from harp.ambient import deterministic, pinned
from harp.errors import HarpError
from harp.networks.assess import check
from harp.pipeline.limits import check_sizes
from harp.pipeline.outside import check_network
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.report import REPORT
from harp.stages.evaluate import asked_afterwards, evaluate
from harp.stages.export import export
from harp.stages.files import model_files
from harp.stages.finetune import finetune
from harp.stages.methods import begins_untrained
from harp.stages.pretrain import pretrain
from harp.stages.prune import check_budget, prune
from harp.stages.report import report

STAGES: dict[str, Callable[[Workspace], None]] = {
    "pretrain": pretrain,
    "prune": prune,
    "finetune": finetune,
    "evaluate": evaluate,
    "export": export,
    "report": report,
}

TRAINING = ("pretrain", "prune", "finetune")


@pinned()
@deterministic()
def run_stages(work: Workspace, names: Sequence[str] = tuple(STAGES)) -> None:
    """The named stages are done: finished ones are skipped, begun ones resumed.

    `names` in the order of `STAGES`. A stage that begins from a `source` of its own makes those before it unnecessary,
    and a whole run then leaves them out; it leaves out the report, too, where there is no prune stage to tell of.
    """
    wanted = [name for name in names if name not in _unnecessary(work, names)]
    if "evaluate" in wanted:
        check(work.recipe.evaluation, work.threat.norm)
    if work.threat.norm == 1 and set(wanted) & set(TRAINING):
        raise HarpError("threat.norm: training knows inf and 2; 1 is for `harp evaluate` with AutoAttack's attacks")
    work.check_recipe()
    if waiting := [name for name in TRAINING if name in wanted and not is_done(work, name)]:
        check_sizes(work.recipe, work.split, waiting)
        check_network(work)
    if "prune" in wanted and not is_done(work, "prune"):
        check_budget(work)
    try:
        for name in wanted:
            # Asked in turn: a stage that ran makes an earlier report out of date.
            if is_done(work, name):
                continue
            if work.run.folder.is_dir():
                work.run.claim()
                if is_done(work, name):  # by another process, a moment ago
                    continue
            work.display.say(f"{name} ...")
            STAGES[name](work)
    finally:
        work.run.release()


def is_done(work: Workspace, name: str) -> bool:
    """Whether the stage has ended in this run's folder."""
    if name == "report":
        return (work.run.folder / REPORT).exists()
    if name != "evaluate":
        return work.run.done(FOLDERS[name]) is not None
    # An evaluation made before the last training stage ended is not the whole one.
    done = work.run.done(FOLDERS["evaluation"])
    return (
        done is not None
        and done.get("models") == sorted(model_files(work))
        and done.get("asked") == asked_afterwards(work)
    )


def _unnecessary(work: Workspace, names: Sequence[str]) -> set[str]:
    if len(names) == 1:
        return set()
    if work.recipe.finetune.source:
        return {"pretrain", "prune", "report"}
    return {"pretrain"} if work.recipe.prune.source or begins_untrained(work.recipe) else set()
