"""What the files of a run tell: which stage it is at, how far, what was measured last, and whether it has ended."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harp.config import EVALUATION, EXPORT, Planned, PruneSettings, Recipe, make_recipe, plan, settings_of
from harp.errors import HarpError
from harp.pipeline.display import span
from harp.pipeline.kept import settings_in
from harp.report import REPORT
from harp.runs import Metrics, Run, checked, read_json
from harp.stages.methods import steps_needed
from harp.watching.reading import at_work, changed_at, patiently
from harp.written import DataSet, Line

FRESH = 60.0  # seconds between the end of one stage and the beginning of the next, if the same process makes both
Status = Literal["waiting", "running", "done"]


@dataclass(frozen=True)
class StageState:
    """One stage: how many of its `until` optimizer steps were on record at `at`, and the records so far.

    `began` is when step 0 was, None where the stage was taken up again and nobody knows. `note` is all there is to say
    of a stage that has no steps. Times are seconds since 1970.
    """

    name: str
    status: Status
    step: int = 0
    until: int | None = None
    at: float | None = None
    began: float | None = None
    records: tuple[Line, ...] = ()
    budget: float | None = None
    note: str = ""

    def left(self, seen: tuple[float, int] | None = None, now: float | None = None) -> str:
        """`12 min left` by the pace since `seen`, a time and its step; "" where nothing is known."""
        base = seen or ((self.began, 0) if self.began is not None else None)
        if self.status != "running" or base is None or self.at is None or self.until is None:
            return ""
        moved, took = self.step - base[1], self.at - base[0]
        if moved <= 0 or took <= 0:
            return ""
        rest = took / moved * (self.until - self.step) - ((time.time() if now is None else now) - self.at)
        return f"{span(max(0.0, rest))} left"


@dataclass(frozen=True)
class RunState:
    """A run: its stages in order, whether a process is at work on it (None: not known), whether all of it is done."""

    folder: Path
    stages: tuple[StageState, ...]
    at_work: bool | None
    ended: bool


def watched_run(folder: Path) -> RunState:
    """The run in `folder` as its files are now; raises `HarpError` where no run's recipe lies there."""
    run, path = Run(folder), folder / "recipe.yaml"
    if not path.is_file():
        raise HarpError(f"no run in {folder}: expected a folder with recipe.yaml, or an arena's")
    working, recipe = at_work(folder), patiently(lambda: make_recipe(settings_in(path)), None)
    if recipe is None:  # being written
        return RunState(folder, (), working, False)
    data = patiently(lambda: _data(folder / "data.json"), None)
    states, before = [], folder / "environment.json"
    for stage in plan(recipe.stages):
        states.append(_stage(run, recipe, stage, data, before))
        done = run.at(stage.folder) / "done.json"
        before = done if done.exists() else before
    finished = [state.status == "done" for state in states]
    states += [_evaluation(run, recipe, data), _named(run, EXPORT, "export")]
    if any(stage.kind == "prune" for stage in plan(recipe.stages)):
        states.append(StageState("report", "done" if (folder / REPORT).exists() else "waiting"))
    # What a run begins from may make stages before it unnecessary, so the last one speaks for all.
    ended = finished[-1] and all(state.status == "done" for state in states[len(finished) :])
    return RunState(folder, tuple(states), working, ended)


def _data(path: Path) -> DataSet:
    found: DataSet = checked(path, read_json(path), DataSet)
    return found


def _stage(run: Run, recipe: Recipe, stage: Planned, data: DataSet | None, before: Path) -> StageState:
    folder, settings = run.at(stage.folder), settings_of(recipe, stage)
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        return StageState(stage.name, "waiting")
    none: tuple[Line, ...] = ()
    records = patiently(lambda: tuple(Line.model_validate(line) for line in Metrics(metrics)), none)
    done: Mapping[str, Any] | None = patiently(lambda: run.done(stage.folder), None)
    step = records[-1].step if records else 0
    begun, ended = changed_at(run.folder / "recipe.yaml"), changed_at(before)
    fresh = begun is not None and ended is not None and begun - ended < FRESH
    return StageState(
        stage.name,
        "done" if done is not None else "running",
        step if done is None else int(done.get("steps", step)),
        _until(recipe, stage, records, data),
        changed_at(metrics),
        begun if fresh else None,
        records,
        settings.keep if isinstance(settings, PruneSettings) else None,
    )


def _until(recipe: Recipe, stage: Planned, records: tuple[Line, ...], data: DataSet | None) -> int | None:
    """How many steps the stage has; an epoch's are told by the records, and before the first by the images."""
    settings = settings_of(recipe, stage)
    if records and records[-1].epoch:
        per_epoch = round(records[-1].step / records[-1].epoch)
    elif data is not None and settings.objective != "free-at":
        per_epoch = data.train // settings.batch_size
    else:
        return None
    whole = settings.epochs * per_epoch
    if not isinstance(settings, PruneSettings):
        return whole
    return patiently(lambda: steps_needed(settings, per_epoch, recipe.seed), whole)


def _evaluation(run: Run, recipe: Recipe, data: DataSet | None) -> StageState:
    """The evaluation by its finished batches, those of the measure that was written last."""
    if patiently(lambda: run.done(EVALUATION), None) is not None:
        return StageState("evaluate", "done")
    files = list(run.at(EVALUATION).glob("*/*-?????.safetensors"))
    if not files:
        return StageState("evaluate", "waiting")
    last = max(files, key=lambda path: changed_at(path) or 0.0)
    measure = last.stem[: -len("-00000")]
    count = sum(path.parent == last.parent and path.stem[: -len("-00000")] == measure for path in files)
    images = (recipe.evaluation.images or data.test) if data else None
    of = f" of {math.ceil(min(images, data.test) / recipe.evaluation.batch_size)}" if images and data else ""
    return StageState("evaluate", "running", note=f"{last.parent.name}, {measure}: {count}{of} batches")


def _named(run: Run, folder: str, name: str) -> StageState:
    if patiently(lambda: run.done(folder), None) is not None:
        return StageState(name, "done")
    return StageState(name, "running" if run.at(folder).is_dir() else "waiting")
