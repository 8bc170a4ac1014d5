"""What each row of an arena gains over one of them: the difference on the same images, with intervals over seeds, too.

    .venv/bin/python benchmarks/levers.py arenas/levers --out docs/results/levers.json [--against harp] [--base FOLDER]
        [--ours ROW]

Of every finished cell whose seed has the row `--against`, too, in its own arena or in that of `--base` (what changes
the dense network needs an arena of its own), it notes both accuracies and on how many test images one of the two is
right alone: under attack on those that the arena evaluated, clean on all there are, which it asks every network for.
Cells noted in `--out` by an earlier call stay, so an arena may be run seed by seed and in several places; of a cell
noted twice the later counts. What cannot be averaged is refused: another dense network of the row `--against` at the
same seed, by its bits, other attacks, another number of images, another row to compare with. For each row and budget it
then prints the means, the mean difference with Student's 95 % interval over seeds (which it needs two for), and with
Newcombe's over the images of all seeds.
"""

import argparse
from collections.abc import Collection, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from harp.arena.results import RESULTS
from harp.arena.schema import Results
from harp.config import EVALUATION, loses_channels, make_recipe
from harp.errors import HarpError
from harp.evaluation import evaluate, flags_of, mcnemar, spread
from harp.networks.named import find_network, loaded
from harp.pipeline import Workspace
from harp.report.reading import read_models
from harp.runs import read_json, write_json

KINDS = ("clean", "worst")
WEIGHTS = "model.safetensors"
BATCH = 500
Record = dict[str, Any]


def noted(folder: Path, against: str, base: Path) -> Iterable[Record]:
    """The finished cells of an arena beside the cell of `against` in the arena `base` at the same budget and seed."""
    results, others = (Results.model_validate(read_json(one / RESULTS)) for one in (folder, base))
    beside = {(cell.keep, cell.seed): base / cell.folder for cell in others.measured if cell.row == against}
    if results.attacks != others.attacks:
        raise HarpError(f"{folder}: attacks {results.attacks}, but {base} has {others.attacks}")
    compared = [cell for cell in results.measured if (cell.keep, cell.seed) in beside]
    answered = clean({folder / cell.folder for cell in compared} | set(beside.values()))
    for cell in compared:
        pair = folder / cell.folder, beside[cell.keep, cell.seed]
        counts = {
            "clean": _counts(*(answered[run] for run in pair)),
            "worst": _counts(*(_attacked(run) for run in pair)),
        }
        yield {
            "row": cell.row,
            "keep": cell.keep,
            "seed": cell.seed,
            "n": {kind: sum(count.values()) for kind, count in counts.items()},
            "attacks": list(results.attacks),
            "doubts": list(cell.accuracies["worst"].doubts),
            "kept": cell.kept,
            "dense": sha256((base / f"dense-seed{cell.seed}" / "1-pretrain" / WEIGHTS).read_bytes()).hexdigest(),
            **counts,
            "environment": read_json(folder / cell.folder / "environment.json"),
        }


def clean(runs: Collection[Path]) -> dict[Path, Tensor]:
    """On which of all test images each run's network is right, bool [n]; all have one set of images."""
    found, bar = {}, Console(stderr=True)
    works: dict[bool, Workspace] = {}  # one for networks that lost channels, one for others: reading images takes long
    for run in track(runs, "clean accuracy", console=bar, disable=not bar.is_terminal):
        network = find_network(str(run))
        recipe = make_recipe(network.settings)
        work = works.setdefault(loses_channels(recipe), Workspace(recipe, run))
        model = loaded(work, network.weights)
        found[run] = evaluate(model, work.in_order(work.split.test, BATCH), {}, work.threat).flags["clean"]
    return found


def _attacked(cell: Path) -> Tensor:
    records = cell / EVALUATION
    return flags_of(records / list(read_models(records / "results.json"))[-1])["worst"]


def _strange(cell: Record, other: Record) -> str:
    """What keeps the two from being averaged: empty where nothing does."""
    same = ("attacks", "n", "dense") if cell["seed"] == other["seed"] else ("attacks", "n")
    return ", ".join(name for name in same if cell[name] != other[name])


def _counts(own: Tensor, base: Tensor) -> dict[str, int]:
    """How many images both are right on, the row alone, the one it is compared with alone, and neither."""
    pairs = ((own, base), (own, ~base), (~own, base), (~own, ~base))
    names = ("both", "alone", "lost", "neither")
    return {name: int((a & b).sum()) for name, (a, b) in zip(names, pairs, strict=True)}


def summed(cells: list[Record], kind: str) -> Record:
    """Accuracy of a row, in per cent, and its difference from the other with both intervals; one record a seed."""
    accuracies = [100 * (cell[kind]["both"] + cell[kind]["alone"]) / cell["n"][kind] for cell in cells]
    differences = [100 * (cell[kind]["alone"] - cell[kind]["lost"]) / cell["n"][kind] for cell in cells]
    count = {name: sum(cell[kind][name] for cell in cells) for name in ("both", "alone", "lost", "neither")}
    pair = [(True, True), (True, False), (False, True), (False, False)]
    flags = torch.tensor([flag for flag, name in zip(pair, count, strict=True) for _ in range(count[name])])
    over_images = mcnemar(flags[:, 0], flags[:, 1])
    many = spread(differences) if len(cells) > 1 else None
    return {
        "each": [round(value, 2) for value in accuracies],
        "mean": sum(accuracies) / len(accuracies),
        "difference": sum(differences) / len(differences),
        "over_seeds": [many.low, many.high] if many else None,
        "over_images": [100 * over_images.low, 100 * over_images.high],
        "p": over_images.p,
    }


def summary(cells: Iterable[Record]) -> list[Record]:
    """One record a row and budget, best mean difference under attack first: rows may have run under other seeds."""
    by: dict[tuple[float, str], list[Record]] = {}
    for cell in sorted(cells, key=lambda cell: int(cell["seed"])):
        by.setdefault((cell["keep"], cell["row"]), []).append(cell)
    rows = [
        {
            "row": row,
            "keep": keep,
            "seeds": [cell["seed"] for cell in found],
            "doubts": sorted({doubt for cell in found for doubt in cell["doubts"]}),
            **{kind: summed(found, kind) for kind in KINDS},
        }
        for (keep, row), found in by.items()
    ]
    return sorted(rows, key=lambda row: (-row["keep"], -row["worst"]["difference"]))


def lines(rows: Iterable[Record]) -> Iterable[str]:
    """The rows as a table in Markdown."""
    heads = "keep", "row", "clean", "robust (each)", "difference", "over images", "over seeds", "in clean", "doubts"
    yield f"| {' | '.join(heads)} |"
    yield "|--:|---|--:|--:|--:|--:|--:|--:|---|"
    for row in rows:
        clean, robust = (row[kind] for kind in KINDS)
        seeds, images = (_interval(robust[name]) for name in ("over_seeds", "over_images"))
        each = ", ".join(f"{accuracy:.1f}" for accuracy in robust["each"])
        yield (
            f"| {row['keep']:.2%} | {row['row']} | {clean['mean']:.1f} | {robust['mean']:.1f} ({each}) "
            f"| {robust['difference']:+.1f} | {images} | {seeds} | {clean['difference']:+.1f} "
            f"| {', '.join(row['doubts'])} |"
        )


def leads(rows: Iterable[Record], ours: str) -> Iterable[str]:
    """By how many points under attack `ours` leads each other row, over the seeds that both have, best rival first."""
    yield f"| ahead of | seeds | `{ours}` leads by | over seeds |"
    yield "|---|--:|--:|--:|"
    each = {(row["keep"], row["row"]): dict(zip(row["seeds"], row["worst"]["each"], strict=True)) for row in rows}
    for (keep, name), theirs in each.items():
        own = each.get((keep, ours), {})
        ahead = [own[seed] - theirs[seed] for seed in theirs if seed in own]
        if name != ours and len(ahead) > 1:
            lead = spread(ahead)
            yield f"| {keep:.2%}, {name} | {len(ahead)} | {lead.mean:+.1f} | {_interval([lead.low, lead.high])} |"


def _interval(ends: list[float] | None) -> str:
    return f"{ends[0]:+.1f} to {ends[1]:+.1f}" if ends else "one seed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of arenas whose cells are noted")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of all cells noted so far")
    parser.add_argument("--against", default="harp", help="the row that all others are compared with (default: harp)")
    parser.add_argument("--base", type=Path, help="the arena that row is taken from (default: each folder has its own)")
    parser.add_argument("--ours", help="a row whose lead over each other row is printed, too, over seeds alone")
    own = parser.parse_args()
    before = read_json(own.out) if own.out.exists() else {"against": own.against, "cells": []}
    if before["against"] != own.against:
        parser.error(f"--against: {own.out} compares with {before['against']}, not with {own.against}")
    cells = {(cell["row"], cell["keep"], cell["seed"]): cell for cell in before["cells"]}
    for folder in own.folders:
        for cell in noted(folder, own.against, own.base or folder):
            for other in cells.values():
                if strange := _strange(cell, other):
                    parser.error(f"{folder}: {strange} of seed {cell['seed']} is not what {own.out} has")
            cells[cell["row"], cell["keep"], cell["seed"]] = cell
    rows = summary(cells.values())
    write_json(own.out, {"against": own.against, "rows": rows, "cells": [cells[key] for key in sorted(cells)]})
    print(*lines(rows), sep="\n")
    if own.ours:
        print("", *leads(rows, own.ours), sep="\n")


if __name__ == "__main__":
    main()
