"""The table of results: a row for what was measured, a column for each network."""

from collections.abc import Iterator
from dataclasses import dataclass

from harp.report import formats, sentences
from harp.report.record import RunRecord

_LABELS = {"dense": "dense", "pruned": "pruned", "finetuned": "fine-tuned"}
SIZES = {"parameters": "weights kept", "macs": "multiply-accumulates"}
_HEADINGS = {"clean": "clean images", "worst": "worst case"}


@dataclass(frozen=True)
class Row:
    """A row of the results' table: what was measured, how, a cell for each model, the number of images."""

    heading: str
    detail: str
    cells: tuple[str, ...]
    images: str = ""


def labels(record: RunRecord) -> dict[str, str]:
    """The models that the run has, in order, and what the pages call them."""
    return {name: _LABELS.get(name, name) for name in record.evaluation.models}


def rows(record: RunRecord) -> list[Row]:
    evaluation = record.evaluation
    models = [evaluation.models[name] for name in labels(record)]
    # The worst case comes last: it follows from the rows above it, and it is the one to judge a model by.
    names = dict.fromkeys(["clean", *evaluation.attacks, *models[-1].accuracies])
    del names["worst"]
    measured = (row for name in [*names, "worst"] for row in _accuracies(record, name))
    return [*(_sizes(record, of) for of in SIZES), *measured]


def _sizes(record: RunRecord, of: str) -> Row:
    sizes = [record.evaluation.models[name].left(of) for name in labels(record)]
    detail = sentences.macs(record.allocation) if of == "macs" else ""
    return Row(
        SIZES[of], detail, tuple(f"{formats.count(left)} ({formats.share(left, whole)})" for left, whole in sizes)
    )


def _accuracies(record: RunRecord, name: str) -> Iterator[Row]:
    cells = [record.evaluation.models[model].accuracies.get(name) for model in labels(record)]
    detail = {"clean": "no attack", "worst": "right on the clean image and under every attack"}
    yield Row(
        _HEADINGS.get(name, name),
        detail.get(name) or formats.attack(record.evaluation.attacks.get(name, "")),
        tuple(formats.interval(cell) for cell in cells),
        ", ".join(formats.count(n) for n in sorted({cell.n for cell in cells if cell})),
    )
    balanced = [cell and cell.balanced for cell in cells]
    if any(balanced):
        detail_of = "the mean of the classes' accuracies, for they are of unequal size"
        yield Row(f"{_HEADINGS.get(name, name)}, classes alike", detail_of, tuple(map(formats.interval, balanced)))
