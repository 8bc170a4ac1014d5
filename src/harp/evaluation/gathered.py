"""What an evaluation found, example by example and in all."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.evaluation.balanced import balanced_accuracy
from harp.evaluation.record import Record
from harp.evaluation.statistics import wilson
from harp.runs import Tree

Flags = Mapping[str, Tensor]
"""Measure -> bool tensor [n], true where the model was right: "clean", each attack, and "worst", right under all."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` saw of n examples, on the CPU.

    `distance` (float32 [n]) is the norm of the perturbation that first broke an example: 0 where it was wrong clean,
    infinite where it held; `broken_by` names the measure, "" where it held. `notes` are the attacks' own warnings.
    """

    flags: Flags
    labels: Tensor
    distance: Tensor
    broken_by: tuple[str, ...]
    notes: tuple[str, ...]
    cascade: bool

    @property
    def clean(self) -> float:
        """The share of examples right as they are, in [0, 1]."""
        return float(self.flags["clean"].double().mean())

    @property
    def robust(self) -> float:
        """The share right as they are and under every attack, in [0, 1]; nobody has looked for doubts (`examine`)."""
        return float(self.flags["worst"].double().mean())

    def table(self, name: str = "network") -> str:
        """Every measure with its 95 % interval, in percent, as text; it heads the column with `name`."""
        # Imported late: rich takes longer than all of harp that measures.
        from harp.evaluation.tables import accuracy_table, as_text

        cells = summary(self.flags)
        cells["worst"]["examined"] = 0
        return as_text(accuracy_table({name: cells}, "accuracy in %, with 95 % intervals", {}, self.cascade))


def gathered(record: Record, count: int, attacks: tuple[str, ...], cascade: bool) -> Evaluation:
    """The record's `count` batches, put together."""
    flags: dict[str, list[Tensor]] = {name: [] for name in ("clean", *attacks)}
    labels, distances, broken_by, notes = [], [], [], []
    for index in range(count):
        trees = {name: record.get(name, index) or {} for name in flags}
        for name, parts in flags.items():
            parts.append(trees[name]["right"].cpu())
        labels.append(trees["clean"]["labels"].cpu())
        distance, by = _broken_first({name: trees[name] for name in attacks}, flags["clean"][-1])
        distances.append(distance)
        broken_by += by
        notes += [f"{name}: {note}" for name in attacks for note in trees[name]["notes"]]
    joined = {name: torch.cat(parts) for name, parts in flags.items()}
    joined["worst"] = torch.stack(list(joined.values())).all(0)
    unique = tuple(dict.fromkeys([*_drawn(record, count, [*flags]), *notes]))
    return Evaluation(joined, torch.cat(labels), torch.cat(distances), tuple(broken_by), unique, cascade)


def _drawn(record: Record, count: int, measures: list[str]) -> list[str]:
    """What is to be said of a network of several draws: how often a single answer is right, where it is so least."""
    draws = record.asked.get("draws", 1)
    if draws == 1:
        return []
    least = []
    for index in range(count):
        trees = [record.get(name, index) or {} for name in measures]
        least.append(torch.stack([tree["votes"].cpu() for tree in trees]).amin(0))
    share = float(torch.cat(least).double().mean()) / draws
    said = f"an image counts as right where all of {draws} answers are; on the image that did each most harm a single "
    return [f"{said}answer is right in {share:.1%} of all draws."]


def _broken_first(trees: Mapping[str, Tree], clean: Tensor) -> tuple[Tensor, list[str]]:
    """How far from each image the first adversarial one was, and whose it was."""
    distance = torch.where(clean, torch.inf, 0.0)
    by = ["" if right else "clean" for right in clean.tolist()]
    for name, tree in trees.items():
        for place, far in zip(tree["places"].tolist(), tree["distance"].tolist(), strict=True):
            if not by[place]:
                by[place], distance[place] = name, far
    return distance, by


def flags_of(folder: Path) -> Flags:
    """The flags in a finished record; raises `HarpError` where there is none."""
    record = Record(folder, None)
    attacks = tuple(record.asked["attacks"])
    count = 0
    while record.get("clean", count) is not None:
        count += 1
    if not count or any(record.get(name, count - 1) is None for name in attacks):
        raise HarpError(f"{folder} holds no finished record of an evaluation")
    return gathered(record, count, attacks, record.asked["cascade"]).flags


def summary(flags: Flags, labels: Tensor | None = None) -> dict[str, dict[str, Any]]:
    """Each measure's accuracy in [0, 1], its 95 % Wilson interval (low, high) and n.

    With `labels` also "balanced", the same of the mean of the classes' accuracies, as is customary for SVHN.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name, right in flags.items():
        low, high = wilson(int(right.sum()), len(right))
        rows[name] = {"accuracy": int(right.sum()) / len(right), "low": low, "high": high, "n": len(right)}
        if labels is not None:
            rows[name]["balanced"] = asdict(balanced_accuracy(right, labels))
    return rows
