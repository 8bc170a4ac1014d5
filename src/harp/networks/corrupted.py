"""Natural corruptions of an evaluation's images: which are asked for, measured once, and shown."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from torch import nn

from harp.config import EvaluationSettings
from harp.data import Counted
from harp.evaluation import IDENTITY, RESULT
from harp.evaluation.corruptions import CORRUPTIONS, LEVELS, under_corruptions
from harp.networks.progress import recorded
from harp.own import label_of
from harp.pipeline.display import Display
from harp.seals import write_sealed

FOLDER, ALL = "corruptions", "all"


def kinds_of(settings: EvaluationSettings) -> tuple[str, ...]:
    """The corruptions that the settings name; raises `HarpError` for one there is not."""
    names = dict.fromkeys(kind for name in settings.corruptions for kind in (CORRUPTIONS if name == ALL else (name,)))
    for name in names:
        CORRUPTIONS[name]
    return tuple(names)


def corruptions(
    model: nn.Module, batches: Counted, settings: EvaluationSettings, seed: int, display: Display, folder: Path | None
) -> dict[str, Any]:
    """What `under_corruptions` tells; with an evaluation's `folder` recorded in one inside it, under a seal."""
    kinds, within = kinds_of(settings), folder / FOLDER if folder else None
    done = {label_of(kind): min(len(batches), recorded(within, label_of(kind)) * batches.batch_size) for kind in kinds}
    if within is not None and any(count < len(batches) for count in done.values()):
        (within / RESULT).unlink(missing_ok=True)  # its seal is about the kinds before
    with display.measures("corruptions", len(batches), done) as move:

        def tick(kind: str, n: int) -> None:
            move(kind, n)

        found = under_corruptions(model, batches, kinds, seed, folder=within, tick=tick)
    if within is not None:
        parts = [path.name for path in within.iterdir() if path.suffix == ".safetensors"]
        write_sealed(within / RESULT, found, [IDENTITY, *parts])
    return found


def corruption_table(values: Mapping[str, Any]) -> Table:
    """Accuracy in percent, a row for each kind, a column for each level."""
    kinds = values["kinds"]
    cells = [cell for row in kinds.values() for cell in row["levels"]]
    off = max(max(cell["high"] - cell["accuracy"], cell["accuracy"] - cell["low"]) for cell in cells)
    grid = Table(
        title="accuracy in % under natural corruptions of five levels; no part of worst",
        caption=f"n = {values['n']:,}; 95 % intervals reach no further than {100 * off:.1f} points",
    )
    grid.add_column("", overflow="fold")
    for level in (*map(str, LEVELS), "mean"):
        grid.add_column(level, justify="right", no_wrap=True)
    grid.add_row("clean", *[""] * len(LEVELS), f"{100 * values['clean']['accuracy']:.1f}")
    for kind, row in kinds.items():
        shares = (*(cell["accuracy"] for cell in row["levels"]), row["mean"])
        grid.add_row(kind, *(f"{100 * share:.1f}" for share in shares))
    grid.add_row(f"mean of {len(kinds)}", *[""] * len(LEVELS), f"{100 * values['mean']:.1f}")
    return grid
