"""What an arena came to: every finished run as a row, ranked within its budget; and written as JSON."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from safetensors.numpy import load_file

from harp.arena.grid import Cell, Grid, data_of, dense_cell
from harp.arena.latency import latency_of
from harp.arena.ranking import neighbours, ranked
from harp.arena.running import FAILED, is_finished
from harp.arena.schema import Dense, Failure, Result, Results, Share
from harp.config import EVALUATION, EXPORT, forwards, plan
from harp.report.reading import read_allocation, read_export, read_models
from harp.runs import Run, environment, read_json, write_json

RESULTS = "results.json"


def collect(grid: Grid, cells: Sequence[Cell], folder: Path) -> Results:
    """What the finished cells say; robust is right as they are and under every attack."""
    dense = {seed: dense_cell(grid, seed) for seed in grid.seeds}
    done = [cell for cell in cells if is_finished(cell, folder)]
    measured = [_result(cell, dense[cell.seed], folder) for cell in done]
    failed = [
        Failure(row=cell.row, keep=cell.keep, seed=cell.seed, reason=read_json(path)["reason"])
        for cell in (*dense.values(), *cells)
        if (path := folder / cell.folder / FAILED).exists()
    ]
    unfinished = sum(not is_finished(cell, folder) for cell in cells if not (folder / cell.folder / FAILED).exists())
    ranking = [standing for keep in (*grid.keeps, *grid.once) for standing in ranked(keep, measured)]
    told = read_json(folder / done[0].folder / EVALUATION / "results.json", dict[str, Any]) if done else {}
    return Results(
        name=grid.name,
        recipe=grid.recipe,
        data=data_of(grid),
        threat=told.get("threat", {}),
        attacks=told.get("attacks", {}),
        dense=tuple(_dense(cell, folder) for cell in dense.values() if is_finished(cell, folder)),
        measured=tuple(measured),
        failed=tuple(failed),
        unfinished=unfinished,
        ranking=tuple(ranking),
        neighbours=tuple(neighbours(ranking, measured, folder)),
        environment=environment(torch.device("cpu")),
    )


def _dense(cell: Cell, folder: Path) -> Dense:
    return Dense.model_validate(_told(cell, folder))


def _result(cell: Cell, dense: Cell, folder: Path) -> Result:
    run = Run(folder / cell.folder)
    manifest = read_export(run.at(EXPORT) / "manifest.json")
    stages = plan(cell.recipe.stages)
    cut = [stage for stage in stages if stage.kind == "prune"][-1]
    shared = read_allocation(run.at(cut.folder) / "allocation.json")
    about = {
        "row": cell.row,
        "method": shared.method,
        "keep": cell.keep,
        "kept": _nonzeros(run.at(EXPORT) / manifest.file, manifest.sites),
        "budget": shared.budget,
        "of": shared.of,
        "latency": latency_of(run.folder, folder / dense.folder),
        "shares": {site.name: site.share for site in shared.sites},
        "notes": tuple(note for stage in stages for note in (run.done(stage.folder) or {}).get("notes", ())),
    }
    return Result.model_validate({**_told(cell, folder), **about})


def _told(cell: Cell, folder: Path) -> dict[str, Any]:
    """What is said of a cell's last network, of its file and of what training cost."""
    run, recipe = Run(folder / cell.folder), cell.recipe
    stages = plan(recipe.stages)
    row = read_models(run.at(EVALUATION) / "results.json")[stages[-1].network]
    manifest = read_export(run.at(EXPORT) / "manifest.json")
    markers = {stage: run.done(stage.folder) or {} for stage in stages}
    shares = {name: _share(value) for name, value in row.items() if isinstance(value, Mapping)}
    return {
        "seed": cell.seed,
        "folder": cell.folder,
        "accuracies": shares,
        "n": row["worst"]["n"],
        **{name: row[name] for name in ("total", "macs", "total_macs")},
        "bytes": manifest.bytes,
        "package_bytes": manifest.package.bytes if manifest.package else None,
        "seconds": sum(done.get("seconds") or 0.0 for done in markers.values()),
        "forwards": sum(forwards(recipe, stage, done.get("steps") or 0) for stage, done in markers.items() if done),
    }


def _share(value: Mapping[str, Any]) -> Share:
    balanced = value.get("balanced")
    return Share.model_validate({**value, "balanced": balanced and balanced["accuracy"]})


def _nonzeros(path: Path, sites: Mapping[str, Any]) -> int:
    tensors = load_file(path)
    return sum(int(numpy.count_nonzero(tensors[name])) for name in sites if name in tensors)


def write_results(results: Results, folder: Path) -> None:
    """results.json in the arena's folder."""
    write_json(folder / RESULTS, results.model_dump(mode="json"))
