"""What a reader should know before trusting the numbers: the stages' notes, and records that contradict."""

from collections.abc import Iterator

from harp.report.formats import count
from harp.report.record import RunRecord
from harp.written import Allocation


def doubts(record: RunRecord) -> list[tuple[str, str]]:
    """Pairs of stage and sentence, by stage: its own notes, then what comparing the records shows."""
    return sorted([*record.notes, *_found(record)], key=lambda doubt: doubt[0])


def _found(record: RunRecord) -> Iterator[tuple[str, str]]:
    learned = [step["pruner"] for step in record.search.records if step.get("pruner")]
    if learned and learned[-1].get("target_met") is False:
        yield record.search.name, "The learned rates had not met the budget when the stage ended."
    for sentence in _budget(record.allocation):
        yield record.search.name, sentence
    for sentence in _evaluated(record):
        yield "evaluation", sentence
    for sentence in _exported(record):
        yield "export", sentence


def _budget(allocation: Allocation) -> Iterator[str]:
    price, budget = count(allocation.price), count(allocation.budget)
    # Only where every unit costs 1 can any budget be met to the unit.
    if allocation.granularity == "weights" and allocation.of == "parameters":
        if not allocation.kept == allocation.price == allocation.budget:
            kept = count(allocation.kept)
            yield f"Layers keep {kept} weights at a price of {price}, the budget is {budget} exactly."
    elif allocation.price > allocation.budget:
        yield f"What is kept costs {price} {allocation.unit}, the budget is {budget}."


def _evaluated(record: RunRecord) -> Iterator[str]:
    allocation = record.allocation
    if allocation.of == "latency":
        if record.final.kept != allocation.kept:
            kept = (count(record.final.kept), count(allocation.kept))
            yield "The pruned network has {} weights left, the allocation {}.".format(*kept)
        return
    left, whole = record.final.left(allocation.of)
    total = allocation.whole or allocation.total
    if (left, whole) != (allocation.price, total):
        yield (
            f"The pruned network has {count(left)} of {count(whole)} {allocation.unit} left, "
            f"the allocation {count(allocation.price)} of {count(total)}."
        )


def _exported(record: RunRecord) -> Iterator[str]:
    manifest, kept, other = record.manifest, record.allocation.kept, "the allocation"
    if record.allocation.granularity != "weights":
        # The allocation counts larger units; an evaluation counts weights, but none that the recipe excludes.
        model = record.final
        same = manifest.total == model.total
        kept, other = model.kept if same else manifest.kept, "the evaluated model"
    if manifest.kept != kept:
        yield f"The file keeps {count(manifest.kept)} weights, {other} {count(kept)}."
    if not manifest.logits_equal:
        yield "The exported file's logits were not equal to the trained model's."
