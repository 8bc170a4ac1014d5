"""What a reader should know before trusting the numbers: the stages' notes, and records that contradict."""

from collections.abc import Iterator

from harp.report.formats import count
from harp.report.record import Record


def doubts(record: Record) -> list[tuple[str, str]]:
    """Pairs of stage and sentence, by stage: its own notes, then what comparing the records shows."""
    return sorted([*record.notes, *_found(record)], key=lambda doubt: doubt[0])


def _found(record: Record) -> Iterator[tuple[str, str]]:
    allocation, manifest = record.allocation, record.manifest
    learned = [step["pruner"] for step in record.stage("2-prune").records if step.get("pruner")]
    if learned and learned[-1].get("target_met") is False:
        yield (
            "2-prune",
            "The learned rates had not met the target density when the stage ended.",
        )
    if allocation.kept != allocation.budget:
        yield (
            "2-prune",
            f"Layers keep {count(allocation.kept)} weights, the budget is {count(allocation.budget)}.",
        )
    if manifest["kept"] != allocation.kept:
        yield (
            "export",
            (f"The file keeps {count(manifest['kept'])} weights, the allocation {count(allocation.kept)}."),
        )
    if not manifest["logits_equal"]:
        yield "export", "The exported file's logits were not equal to the trained model's."
