"""Rows against one another: the ranking within a budget, and each row against the next on the same images."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from harp.arena.schema import Neighbours, Result, Standing
from harp.config import EVALUATION
from harp.evaluation import flags_of, mcnemar, spread
from harp.report.reading import read_models


def ranked(keep: float, measured: Sequence[Result]) -> Iterator[Standing]:
    """Rows by mean robust accuracy over seeds, then clean; those with an open doubt come last, for nobody knows it."""
    rows: dict[str, list[Result]] = {}
    for result in measured:
        if result.keep == keep:
            rows.setdefault(result.row, []).append(result)

    def means(results: Sequence[Result]) -> tuple[bool, float, float]:
        robust, clean = (
            sum(result.accuracies[name].accuracy for result in results) / len(results) for name in ("worst", "clean")
        )
        return not any(result.accuracies["worst"].doubts for result in results), robust, clean

    for rank, (row, results) in enumerate(sorted(rows.items(), key=lambda item: means(item[1]), reverse=True), 1):
        sure, robust, clean = means(results)
        spreads = {
            name: spread([result.accuracies[name].accuracy for result in results]).std if len(results) > 1 else None
            for name in ("worst", "clean")
        }
        yield Standing(
            keep=keep,
            rank=rank,
            row=row,
            seeds=tuple(result.seed for result in results),
            clean=clean,
            clean_std=spreads["clean"],
            robust=robust,
            robust_std=spreads["worst"],
            doubted=not sure,
        )


def neighbours(ranking: Sequence[Standing], measured: Sequence[Result], folder: Path) -> Iterator[Neighbours]:
    by = {(result.keep, result.row, result.seed): result for result in measured}
    for better, worse in pairwise(ranking):
        seeds = [seed for seed in better.seeds if seed in worse.seeds]
        if better.keep != worse.keep or not seeds:
            continue
        first, second = (
            torch.cat([_flags(folder, by[one.keep, one.row, seed]) for seed in seeds]) for one in (better, worse)
        )
        found = mcnemar(first, second)
        yield Neighbours(
            keep=better.keep,
            better=better.row,
            worse=worse.row,
            n=found.n,
            difference=found.difference,
            low=found.low,
            high=found.high,
            p=found.p,
        )


def _flags(folder: Path, result: Result) -> Tensor:
    records = folder / result.folder / EVALUATION
    last = list(read_models(records / "results.json"))[-1]
    return flags_of(records / last)["worst"]
