"""The measuring itself: logits compared, then times taken in turns, then memory, runner by runner."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

from harp import processor
from harp.ambient import precise
from harp.bench.judged import judged
from harp.bench.memory import memory
from harp.bench.runners import RUNNERS, Answer, Runner
from harp.bench.subject import Subject
from harp.bench.timing import Samples, faster, interleaved, summarised
from harp.errors import HarpError
from harp.export import agree
from harp.export.agreement import relative
from harp.models.adapt import logits_of
from harp.pipeline.display import Display
from harp.runs import environment

# Looser than a file's own check: it only tells the network that is timed from any other.
TOLERANCE = 1e-3
WHOLE = ", before pruning"


@dataclass(frozen=True)
class Plan:
    """What is measured: with how many `threads`, on batches of which sizes, over how many `rounds`.

    `compile` adds torch.compile, which takes a minute to get ready; `memory` is measured in a process for each.
    """

    threads: int = 1
    batches: Sequence[int] = (1, 64)
    rounds: int = 20
    compile: bool = False
    memory: bool = True


@dataclass(frozen=True)
class Entry:
    """A runner with the network it runs."""

    runner: Runner
    subject: Subject
    baseline: bool


@precise()
def bench(subject: Subject, whole: Subject | None, plan: Plan, display: Display) -> dict[str, Any]:
    """Everything measured, as JSON values: sizes in bytes, and of each batch and runner times in seconds and memory.

    `whole` is the network from which channels were removed, where it is known: the stock runners then run both. A
    baseline is the network before pruning under each of them, or, where only weights are zero, what they make of these.
    "times_faster" is of processor time: the median over rounds, with its 95 % interval; "best" names, for each batch,
    the baseline that takes least, and what a runner that rounds and one that does not are right about stands in
    "judged", where the network has a record of an evaluation. Raises `HarpError` where harp's engine cannot run the
    network, or a runner in float32 gives other logits; one that is not installed or cannot run it stands in
    "left_out", with the reason.
    """
    entries, left_out = _entries(subject, whole, plan), dict[str, str]()
    batches = {str(batch): _measured(entries, batch, plan, display, left_out) for batch in plan.batches}
    baselines = [name for name, entry in entries.items() if entry.baseline and name not in left_out]
    if plan.memory:
        _add_memory(entries, batches, plan, display)
    return {
        "threads": plan.threads,
        "rounds": plan.rounds,
        "environment": {**environment(torch.device("cpu")), "processor": processor.features(), **_versions()},
        "baselines": baselines,
        "best": {batch: _best(rows, baselines) for batch, rows in batches.items()},
        "judged": _judged(entries, plan, display, left_out),
        "left_out": left_out,
        "sizes": _sizes(subject, whole),
        "batches": batches,
    }


def _best(rows: Mapping[str, Any], baselines: Sequence[str]) -> str:
    return min(baselines, key=lambda name: float(rows[name]["cpu"]["median"]))


def _judged(
    entries: Mapping[str, Entry], plan: Plan, display: Display, left_out: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """What each runner of the network itself makes of the images on record."""
    asked = {name: entry for name, entry in entries.items() if entry.subject.record and name not in left_out}
    found, batch = {}, max(plan.batches)
    with display.bar("accuracy", len(asked)) as move:
        for name, entry in asked.items():
            record = entry.subject.record
            assert record is not None
            found[name] = judged(entry.subject, record, _ready(entry, batch, plan.threads), batch)
            move(1, name)
    return found


def _versions() -> dict[str, str]:
    libraries = [library for runner in RUNNERS.values() for library in runner.libraries]
    return {name: version(name) for name in libraries if find_spec(name) is not None}


def _entries(subject: Subject, whole: Subject | None, plan: Plan) -> dict[str, Entry]:
    runners = {name: runner for name, runner in RUNNERS.items() if plan.compile or name != "torch.compile"}
    entries = {name: Entry(runner, subject, runner.dense and whole is None) for name, runner in runners.items()}
    if whole is None:
        return entries
    return entries | {f"{name}{WHOLE}": Entry(runner, whole, True) for name, runner in runners.items() if runner.dense}


def _measured(
    entries: Mapping[str, Entry], batch: int, plan: Plan, display: Display, left_out: dict[str, str]
) -> dict[str, Any]:
    answers: dict[str, Answer] = {}
    for name, entry in entries.items():
        try:
            answers[name] = _ready(entry, batch, plan.threads)
        except Exception as error:  # other people's runtimes raise what they like
            if not (entry.runner.dense or entry.runner.rounded):
                raise
            left_out[name] = str(error) if isinstance(error, HarpError) else f"{type(error).__name__}: {_line(error)}"
    differences = {name: _difference(name, entries[name], answer, batch) for name, answer in answers.items()}
    samples = _timed(entries, answers, batch, plan, display)
    return {
        name: {
            "wall": summarised(taken.wall),
            "cpu": summarised(taken.cpu),
            "images_per_second": batch / summarised(taken.wall)["median"],
            "difference": differences[name],
            "times_faster": _ratios(taken, {n: s for n, s in samples.items() if entries[n].baseline and n != name}),
            "samples": asdict(taken),
        }
        for name, taken in samples.items()
    }


def _ready(entry: Entry, batch: int, threads: int) -> Answer:
    """The runner's answer, given once: some get ready only when they are first asked."""
    images = entry.subject.images(batch)
    answer = entry.runner.make(entry.subject, images, threads)
    with torch.inference_mode():
        answer(images)
    return answer


def _line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), "")[:200]


def _difference(name: str, entry: Entry, answer: Answer, batch: int) -> float:
    images = entry.subject.images(batch)
    if entry.runner.rounded:
        with torch.inference_mode():
            return relative(answer(images), logits_of(entry.subject.model(images)))
    return agree(entry.subject.model, answer, [images], TOLERANCE, name).difference


def _timed(
    entries: Mapping[str, Entry], answers: Mapping[str, Answer], batch: int, plan: Plan, display: Display
) -> dict[str, Samples]:
    calls = {name: partial(answer, entries[name].subject.images(batch)) for name, answer in answers.items()}
    with display.bar(f"batch {batch}", plan.rounds * len(calls)) as move, torch.inference_mode():
        return interleaved(calls, plan.rounds, tick=lambda name: move(1, name))


def _ratios(taken: Samples, baselines: Mapping[str, Samples]) -> dict[str, Any]:
    return {name: asdict(faster(other.cpu, taken.cpu)) for name, other in baselines.items()}


def _add_memory(
    entries: Mapping[str, Entry], batches: Mapping[str, dict[str, Any]], plan: Plan, display: Display
) -> None:
    with display.bar("memory", sum(map(len, batches.values()))) as move:
        for batch, rows in batches.items():
            for name, row in rows.items():
                runner = name.removesuffix(WHOLE)
                row["memory"] = memory(runner, entries[name].subject, plan.threads, int(batch))
                move(1, name)


def _sizes(subject: Subject, whole: Subject | None) -> dict[str, int]:
    """Of the files, in bytes; of the ONNX files only where they were written."""
    files = {"package": subject.package, "state_dict": subject.state, "onnx": subject.folder / "model.onnx"}
    files["onnx int8"] = subject.folder / "model-int8.onnx"
    if whole is not None:
        files["state_dict before pruning"] = whole.state
    return {name: path.stat().st_size for name, path in files.items() if path.exists()}
