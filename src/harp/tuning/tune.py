"""The whole of a search: one dense network, then rung after rung for every row, and the grid of what was best."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from harp.arena.grid import Cell, Grid, cells, data_of, dense_cell, row_of, values_of, word_of
from harp.arena.launching import Launcher, Processes
from harp.arena.running import FAILED, is_finished, run_cells
from harp.config import forwards, make_settings, merged, plan, settings_of
from harp.errors import HarpError
from harp.pipeline.display import Display
from harp.runs import Metrics, Run, environment, read_json, write_atomic, write_json
from harp.tuning.drawing import Told, draw, optuna
from harp.tuning.halving import going_on, ladder, shortened
from harp.tuning.schema import Best, Trial, Tuned
from harp.tuning.settings import Tuning, read_tuning
from harp.tuning.space import Range, Values, check_space, nested, space_of

TUNED, GRID = "tuning.json", "tuned.yaml"


def tune(
    tuning: Tuning | Mapping[str, Any] | Path | str,
    folder: Path | str | None = None,
    jobs: int = 1,
    display: Display | None = None,
    launcher: Launcher | None = None,
) -> Tuned:
    """Every row's best settings within a space, by held-out images; the folder has them as a grid for `arena`, too.

    `tuning` is a `Tuning`, its settings, or a YAML file with them; `folder` None: tunings/NAME. All rows get as many
    trials of as many epochs, by successive halving, from one dense network; what they cost is told row by row. The test
    set is not looked at. What is finished is not trained again, and a trial that fails stops no other. The folder gets
    tuning.json after every rung, and at the end tuned.yaml. Raises `HarpError` for a search that is none, where all
    trials of a row fail, and without optuna (the extra tune).
    """
    if isinstance(tuning, Path | str):
        tuning = read_tuning(Path(tuning))
    if not isinstance(tuning, Tuning):
        tuning = make_settings(Tuning, tuning)
    optuna()
    place = (Path(folder) if folder else Path("tunings") / tuning.name).absolute()
    search = _Search(tuning, place, launcher or Processes(jobs), display or Display())
    return search.run()


@dataclass
class _Search:
    tuning: Tuning
    place: Path
    launcher: Launcher
    display: Display
    trials: dict[tuple[str, int, int], Trial] = field(default_factory=dict)
    """by row, rung and number"""

    def __post_init__(self) -> None:
        self.grid = grid_of(self.tuning)
        for _ in cells(self.grid, self.place):  # two rows of one name, settings that are no row's
            pass
        self.dense = dense_cell(self.grid, self.tuning.seed)
        self.rows = dict(map(row_of, self.grid.rows))
        recipes = {row: self._values(own) for row, own in self.rows.items()}
        check_space(self.tuning.space, list(recipes.values()))
        self.space = {row: space_of(self.tuning.space, row, values) for row, values in recipes.items()}
        self.rungs = ladder(self.tuning.trials, self.tuning.rungs, self.tuning.factor)
        for row in self.rows:
            if not self.space[row]:
                raise HarpError(f"space: {row} has none of these settings, so it could not be tuned as the others are")
            self._check_selection(row)

    def run(self) -> Tuned:
        run_cells([self.dense], self.place, self.launcher, self.display, training=True)
        if not is_finished(self.dense, self.place, training=True):
            raise HarpError(f"the dense network: {read_json(self.place / self.dense.folder / FAILED)['reason']}")
        if self.tuning.sampler == "random":
            batches = [range(self.tuning.trials)]
        else:
            each = self.tuning.factor
            batches = [range(at, min(at + each, self.tuning.trials)) for at in range(0, self.tuning.trials, each)]
        for numbers in batches:
            self._measure(0, {row: self._drawn(row, numbers) for row in self.rows})
        for at, one in enumerate(self.rungs[1:], 1):
            best = {row: going_on(self._of(row, at - 1), one.trials) for row in self.rows}
            self._measure(at, {row: {trial.number: trial.settings for trial in found} for row, found in best.items()})
        return self._ended()

    def _drawn(self, row: str, numbers: range) -> dict[int, Mapping[str, Any]]:
        """The row as it stands comes first; then what is drawn."""
        later = range(max(1, numbers.start), numbers.stop)
        told: Told | None = None
        if self.tuning.sampler == "tpe":
            told = [(t.settings, t.robust) for t in self._of(row, 0) if t.settings and t.robust is not None]
        settings = draw(self.space[row], later, told, self.tuning.seed, row, self.tuning.factor)
        found: dict[int, Mapping[str, Any]] = dict(zip(later, settings, strict=True))
        return {0: {}, **found} if 0 in numbers else found

    def _measure(self, at: int, asked: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
        share = self.rungs[at].share
        found = {
            (row, number): (self._cell(row, settings, share), settings)
            for row, some in asked.items()
            for number, settings in some.items()
        }
        once = {cell.folder: cell for cell, _ in found.values()}  # the same settings may be drawn twice
        run_cells(list(once.values()), self.place, self.launcher, self.display, training=True)
        for (row, number), (cell, settings) in found.items():
            self.trials[row, at, number] = self._trial(cell, number, at, settings)
        write_json(self.place / TUNED, self._told(()).model_dump(mode="json"))

    def _values(self, own: Mapping[str, Any]) -> dict[str, Any]:
        dense = self.place / self.dense.folder / "1-pretrain" / "model.safetensors"
        return {**values_of(self.grid, own, self.tuning.keep, dense), "seed": self.tuning.seed}

    def _cell(self, row: str, settings: Mapping[str, Any], share: float) -> Cell:
        word = word_of(row)
        values = shortened(self._values(merged(self.rows[row], nested(settings))), share)
        digest = hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:10]
        return Cell(row, self.tuning.keep, self.tuning.seed, f"cells/{word}-{digest}", {**values, "name": word})

    def _check_selection(self, row: str) -> None:
        recipe = self._cell(row, {}, 1.0).recipe
        last = settings_of(recipe, plan(recipe.stages)[-1])
        if last.selection != "best" or not recipe.data.holdout:
            raise HarpError(
                f"{row}: trials are judged by held-out images; set selection to best and data.holdout above 0"
            )

    def _trial(self, cell: Cell, number: int, at: int, settings: Mapping[str, Any]) -> Trial:
        path = self.place / cell.folder / FAILED
        about = {"row": cell.row, "number": number, "rung": at, "settings": dict(settings), "folder": cell.folder}
        if path.exists():
            about["reason"] = read_json(path)["reason"]
        try:
            recipe = cell.recipe
        except HarpError:  # settings that do not go together; the reason says so
            return Trial(**about, robust=None, clean=None, epochs=0, forwards=0)
        run, stages = Run(self.place / cell.folder), plan(recipe.stages)
        done = {stage: run.done(stage.folder) or {} for stage in stages}
        trained = {stage: marker for stage, marker in done.items() if marker}
        measured = judged(run, stages[-1].folder) if is_finished(cell, self.place, training=True) else None
        return Trial(
            **about,
            robust=measured and measured["robust"],
            clean=measured and measured["clean"],
            epochs=sum(_epochs(run, stage.folder) for stage in trained),
            forwards=sum(forwards(recipe, stage, marker.get("steps") or 0) for stage, marker in trained.items()),
        )

    def _of(self, row: str, at: int) -> list[Trial]:
        return [trial for (of, when, _), trial in self.trials.items() if (of, when) == (row, at)]

    def _ended(self) -> Tuned:
        best = [self._best(row) for row in self.rows]
        results = self._told(sorted(best, key=lambda one: (-one.robust, -one.clean)))
        write_json(self.place / TUNED, results.model_dump(mode="json"))
        rows = [{one.row: merged(self.rows[one.row], nested(one.settings))} for one in best]
        grid = {**self.grid.model_dump(mode="json"), "name": f"{self.tuning.name}-tuned", "rows": rows}
        head = f"# best on {results.held_out} held-out images; `harp arena` of this file judges it on test images\n"
        write_atomic(self.place / GRID, (head + yaml.safe_dump(grid, sort_keys=False)).encode())
        return results

    def _best(self, row: str) -> Best:
        mine = [trial for (of, _, _), trial in self.trials.items() if of == row]
        found = going_on(self._of(row, len(self.rungs) - 1), 1)
        if not found:
            reasons = [trial.reason for trial in mine if trial.reason]
            raise HarpError(f"{row}: no trial came to an end: {reasons[0] if reasons else 'none was left'}")
        paid = {trial.folder: trial for trial in mine}.values()
        return Best(
            row=row,
            settings=found[0].settings,
            robust=found[0].robust or 0.0,
            clean=found[0].clean or 0.0,
            trials=len(mine),
            epochs=sum(trial.epochs for trial in paid),
            forwards=sum(trial.forwards for trial in paid),
        )

    def _told(self, best: Sequence[Best]) -> Tuned:
        return Tuned(
            name=self.tuning.name,
            recipe=self.tuning.recipe,
            data=data_of(self.grid),
            keep=self.tuning.keep,
            seed=self.tuning.seed,
            held_out=read_json(self.place / self.dense.folder / "data.json")["validation"],
            space={name: _told(values) for name, values in self.tuning.space.items()},
            rungs=self.rungs,
            best=tuple(best),
            trials=tuple(self.trials.values()),
            environment=environment(torch.device("cpu")),
        )


def grid_of(tuning: Tuning) -> Grid:
    """The search's rows as an arena has them, untuned."""
    shared = {name: getattr(tuning, name) for name in ("name", "recipe", "settings", "rows", "epochs")}
    return Grid(**shared, keeps=(tuning.keep,), seeds=(tuning.seed,))


def judged(run: Run, folder: str) -> dict[str, float]:
    """What the network that the stage kept measured on the held-out images: "robust" and "clean"."""
    done = run.done(folder) or {}
    lines = Metrics(run.at(folder) / "metrics.jsonl")
    line = next((line for line in lines if line["step"] == done["selected_step"]), None)
    if line is None:
        raise HarpError(f"{folder} measured nothing: a method that takes no step needs a finetune stage after it")
    found: dict[str, float] = line["averaged"] if done.get("averaged") else line["validation"]
    return found


def _epochs(run: Run, folder: str) -> float:
    """How long a stage lasted; one that needs no step recorded nothing."""
    return max((float(line["epoch"]) for line in Metrics(run.at(folder) / "metrics.jsonl")), default=0.0)


def _told(values: Values) -> Any:
    return {"low": values.low, "high": values.high, "log": values.log} if isinstance(values, Range) else list(values)
