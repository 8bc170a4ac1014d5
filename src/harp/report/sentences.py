"""What both pages say in words of a run's budget and size, in the units it was pruned and priced in."""

from collections.abc import Mapping
from typing import Any

from harp.report.formats import count, file_size, percent, span
from harp.report.record import RunRecord
from harp.written import Accuracy, Allocation


def kept(record: RunRecord) -> str:
    """`The method harp (mode exact) kept 246 of 12,304 weights.`; for channels, also what that leaves."""
    allocation, final = record.allocation, record.final
    told = ", ".join(f"{name} {value}" for name, value in record.settings(record.search).get("options", {}).items())
    units = f"{count(allocation.kept)} of {count(allocation.size)} {allocation.granularity}"
    first = f"The method {allocation.method}{f' ({told})' if told else ''} kept {units}"
    if allocation.granularity == "weights":
        return f"{first}."
    weights, macs = (count(final.left(of)[0]) for of in ("parameters", "macs"))
    return f"{first}, which leaves {weights} weights and {macs} multiply-accumulates per image."


def robust(value: Accuracy) -> str:
    """`83.2 % (79.1-86.6)`, or what stands in the number's place while somebody should look into its doubts."""
    if value.doubts:
        return f"not quoted (in doubt: {', '.join(value.doubts)})"
    unseen = "" if value.examined else ", not examined for false robustness"
    return f"{percent(value.accuracy)} ({span(value)}){unseen}"


def budget(allocation: Allocation) -> str:
    """What the budget allowed and what was spent, and for learned rates what they stood for at last."""
    whole = allocation.whole or allocation.total
    text = (
        f"The budget allowed {count(allocation.budget)} of {count(whole)} {allocation.unit} "
        f"({percent(allocation.budget / whole)}); {count(allocation.price)} were spent."
    )
    if allocation.of == "latency":
        text += " These are one image's in the engine, as its planner reckons them; `harp bench` has the time."
    elif allocation.whole:
        text += f" Channels that went before had left {count(allocation.total)}."
    if allocation.learned:
        text += f" Before settling, the learned rates stood for {percent(allocation.density_before)}."
    return text


def size(record: RunRecord) -> str:
    """`12.3 kB (12,345 bytes); dense: 45.7 kB (45,678 bytes)`: the file's size, and that of the dense network's."""
    text = f"{file_size(record.manifest.bytes)} ({count(record.manifest.bytes)} bytes)"
    if record.dense_bytes is not None:
        text += f"; dense: {file_size(record.dense_bytes)} ({count(record.dense_bytes)} bytes)"
    return text


def package(record: RunRecord) -> str:
    """Size, precision and verdicts of the packed file; `none` where the run has none."""
    made = record.manifest.package
    if made is None:
        return "none"
    text = f"{made.file}, {file_size(made.bytes)} ({count(made.bytes)} bytes), values in {made.values}"
    if made.judged is None:
        return text
    different, compared = made.judged.different, made.judged.compared
    verdicts = (
        f"{count(different)} of {count(compared)} verdicts" if different else f"none of {count(compared)} verdicts"
    )
    return f"{text}; {verdicts} on clean and adversarial images differ from the network's"


def form(allocation: Allocation) -> str:
    """What became of that which was pruned."""
    if allocation.granularity == "channels":
        return "removed, so that the network itself is smaller and any engine computes less"
    shape = "the shape that the removal of channels left" if allocation.whole else "the old shape"
    return f"exactly zero in a network of {shape}; only a sparse engine computes less"


def ties(allocation: Allocation) -> str:
    """What a row of the layers' table is where it is more than one layer; empty for weights."""
    if allocation.granularity == "channels":
        return "Layers whose channels can only go together count once, under the name of the first."
    return ""


def course(record: RunRecord) -> str:
    """What the chart of the budget over the pruning stage shows."""
    text = f"The share of the {record.allocation.unit} that the method stands at"
    if not any((line.get("pruner") or {}).get("gamma") is not None for line in record.search.records):
        return f"{text}, lowered to the budget step by step and then held there."
    return f"{text}, by how much it exceeds the budget, and gamma, which weighs the excess in the loss."


def macs(allocation: Allocation) -> str:
    """How multiply-accumulates were counted."""
    if allocation.granularity == "channels":
        return "per image, in the layers that the budget counts"
    return "per image, of kept weights alone, as a sparse engine would do them"


def precision(settings: Mapping[str, Any]) -> str:
    """`float32`, or `bfloat16 in the attack, compiled`: how training computed."""
    where = {"attack": "the attack", "step": "the step", "both": "attack and step"}
    parts = [f"bfloat16 in {where[settings['bf16']]}" if settings["bf16"] in where else "float32"]
    parts += [word for key, word in (("channels_last", "channels last"), ("compile", "compiled")) if settings[key]]
    return ", ".join(parts)


def objective(settings: Mapping[str, Any]) -> str:
    """`trades`, or `trades with AWP 0.005`: what a stage minimised."""
    return f"{settings['objective']} with AWP {settings['awp']:g}" if settings["awp"] else str(settings["objective"])
