"""The order of the stages, and the rule that the same command runs, resumes, and does nothing."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from harp.ambient import deterministic, pinned
from harp.boards import check_boards
from harp.config import EVALUATION, EXPORT, Planned, PruneSettings, settings_of
from harp.errors import HarpError
from harp.networks.assess import check
from harp.pipeline.limits import check_sizes
from harp.pipeline.outside import check_network
from harp.pipeline.workspace import Workspace
from harp.pruners import begins_untrained
from harp.ranks import alone
from harp.report import REPORT
from harp.stages.evaluate import asked_afterwards, evaluate
from harp.stages.export import export
from harp.stages.files import measured_files
from harp.stages.finetune import finetune
from harp.stages.pretrain import pretrain
from harp.stages.prune import check_budget, prune
from harp.stages.report import report

TRAINING: dict[str, Callable[[Workspace, Planned], None]] = {
    "pretrain": pretrain,
    "prune": prune,
    "finetune": finetune,
}
AFTER: dict[str, Callable[[Workspace], None]] = {"evaluate": evaluate, "export": export, "report": report}
STAGES = (*TRAINING, *AFTER)
LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One stage of a run: its name, the training stage that it is, if it is one, and how to do it."""

    name: str
    stage: Planned | None
    do: Callable[[Workspace], None]

    @property
    def together(self) -> bool:
        """Whether several ranks work on it; else the first does it and the others wait."""
        return self.name not in ("export", "report")


@pinned()
@deterministic()
def run_stages(work: Workspace, names: Sequence[str] = STAGES) -> None:
    """The named stages are done: finished ones are skipped, begun ones resumed.

    `names` in the order of `STAGES`; of several training stages of one kind all are meant, or, where it is the only
    name, those whose turn has come. A stage that begins from a `source` of its own makes those before it unnecessary,
    and a whole run then leaves them out; it leaves out the report, too, where there is no prune stage to tell of.
    """
    jobs, ranks = list(_jobs(work, names)), work.ranks
    if "evaluate" in names:
        check(work.recipe.evaluation, work.threat.norm)
    training = [job.stage for job in jobs if job.stage is not None]
    if work.threat.norm == 1 and training:
        raise HarpError("threat.norm: training knows inf and 2; 1 is for `harp evaluate` with AutoAttack's attacks")
    work.check_recipe()
    if waiting := [stage for stage in training if work.run.done(stage.folder) is None]:
        check_boards(work.recipe.boards)
        check_sizes(work.recipe, work.split, waiting)
        check_network(work)
    for stage in waiting:
        if stage.kind == "prune":
            check_budget(work, stage)
    try:
        for job in jobs:
            # Asked in turn: a stage that ran makes an earlier report out of date.
            if ranks.told(lambda job=job: _is_done(work, job) or _was_done_meanwhile(work, job)):  # type: ignore[misc]
                LOG.debug("%s: done already", job.name)
                continue
            work.display.say(f"{job.name} ...")
            if job.together:
                job.do(work)
            elif ranks.first:
                with alone():
                    job.do(work)
            ranks.wait()
    finally:
        work.run.release()


def _jobs(work: Workspace, names: Sequence[str]) -> Iterator[Job]:
    alone = len(names) == 1
    for stage in work.stages if alone else needed(work):
        if stage.kind in names and (not alone or _has_its_turn(work, stage)):
            yield Job(stage.name, stage, partial(_train, stage))
    for name, do in AFTER.items():
        if name in names and (name != "report" or alone or any(stage.kind == "prune" for stage in needed(work))):
            yield Job(name, None, do)


def _train(stage: Planned, work: Workspace) -> None:
    TRAINING[stage.kind](work, stage)


def needed(work: Workspace) -> Sequence[Planned]:
    """The training stages from the last one on that begins from nothing before it."""
    first = 0
    for place, stage in enumerate(work.stages):
        settings = settings_of(work.recipe, stage)
        scratch = isinstance(settings, PruneSettings) and begins_untrained(settings.method, settings.options)
        if settings.source or scratch:
            first = place
    return work.stages[first:]


def _has_its_turn(work: Workspace, stage: Planned) -> bool:
    """Whether the stage is the first of its kind, or what comes before it is done."""
    return stage.turn == 1 or work.run.done(work.stages[stage.number - 2].folder) is not None


def _was_done_meanwhile(work: Workspace, job: Job) -> bool:
    """Whether another process had the folder until a moment ago, and did it; from now on this one has it."""
    if not work.run.folder.is_dir():
        return False
    work.run.claim()
    return _is_done(work, job)


def _is_done(work: Workspace, job: Job) -> bool:
    """Whether the stage has ended in this run's folder."""
    if job.stage is not None:
        return work.run.done(job.stage.folder) is not None
    if job.name == "report":
        return (work.run.folder / REPORT).exists()
    if job.name == "export":
        return work.run.done(EXPORT) is not None
    # An evaluation made before the last training stage ended is not the whole one.
    done = work.run.done(EVALUATION)
    return (
        done is not None
        and done.get("models") == sorted(measured_files(work))
        and done.get("asked") == asked_afterwards(work)
    )
