"""What an arena came to: every finished run as a row, ranked within its budget; and written as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.numpy import load_file

from harp.arena.cost import forwards
from harp.arena.grid import Cell, Grid, data_of
from harp.arena.ranking import neighbours, ranked
from harp.arena.running import FAILED, is_finished
from harp.arena.schema import Failure, Result, Results, Share
from harp.config import EVALUATION, EXPORT, plan
from harp.report.reading import read_allocation, read_export, read_models
from harp.runs import Run, environment, read_json, write_json

RESULTS = "results.json"


def collect(grid: Grid, cells: Sequence[Cell], folder: Path) -> Results:
    """What the finished cells say; robust is right as they are and under every attack."""
    done = [cell for cell in cells if is_finished(cell, folder)]
    measured = [_result(cell, folder) for cell in done]
    failed = [
        Failure(row=cell.row, keep=cell.keep, seed=cell.seed, reason=read_json(path)["reason"])
        for cell in cells
        if (path := folder / cell.folder / FAILED).exists()
    ]
    ranking = [standing for keep in grid.keeps for standing in ranked(keep, measured)]
    told = read_json(folder / done[0].folder / EVALUATION / "results.json", dict[str, Any]) if done else {}
    return Results(
        name=grid.name,
        recipe=grid.recipe,
        data=data_of(grid),
        threat=told.get("threat", {}),
        attacks=told.get("attacks", {}),
        measured=tuple(measured),
        failed=tuple(failed),
        unfinished=len(cells) - len(done) - len(failed),
        ranking=tuple(ranking),
        neighbours=tuple(neighbours(ranking, measured, folder)),
        environment=environment(torch.device("cpu")),
    )


def _result(cell: Cell, folder: Path) -> Result:
    run, recipe = Run(folder / cell.folder), cell.recipe
    stages = plan(recipe.stages)
    row = read_models(run.at(EVALUATION) / "results.json")[stages[-1].network]
    manifest = read_export(run.at(EXPORT) / "manifest.json")
    cut = [stage for stage in stages if stage.kind == "prune"][-1]
    shared = read_allocation(run.at(cut.folder) / "allocation.json")
    markers = {stage: run.done(stage.folder) or {} for stage in stages}
    cells = {name: value for name, value in row.items() if isinstance(value, Mapping)}
    return Result(
        row=cell.row,
        method=shared.method,
        keep=cell.keep,
        seed=cell.seed,
        folder=cell.folder,
        accuracies={name: Share.model_validate(value) for name, value in cells.items()},
        n=cells["worst"]["n"],
        kept=_nonzeros(run.at(EXPORT) / manifest.file, manifest.sites),
        total=row["total"],
        macs=row["macs"],
        total_macs=row["total_macs"],
        budget=shared.budget,
        of=shared.of,
        bytes=manifest.bytes,
        package_bytes=manifest.package.bytes if manifest.package else None,
        shares={site.name: site.share for site in shared.sites},
        seconds=sum(done.get("seconds") or 0.0 for done in markers.values()),
        forwards=sum(forwards(recipe, stage, done.get("steps") or 0) for stage, done in markers.items() if done),
        notes=tuple(note for done in markers.values() for note in done.get("notes", ())),
    )


def _nonzeros(path: Path, sites: Mapping[str, Any]) -> int:
    tensors = load_file(path)
    return sum(int(numpy.count_nonzero(tensors[name])) for name in sites if name in tensors)


def write_results(results: Results, folder: Path) -> None:
    """results.json in the arena's folder."""
    write_json(folder / RESULTS, results.model_dump(mode="json"))
