"""How fast pruned networks run: harp's engine beside OpenVINO, ONNX Runtime and PyTorch, in turns, on this machine.

    OMP_NUM_THREADS=1 taskset -c 0 .venv/bin/python benchmarks/runtime.py speed [--nets resnet18] [--keeps 0.01]
    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/runtime.py speed --nets resnet50 --keeps 0.1 0.05 0.01 --batches 1 8
    .venv/bin/python benchmarks/runtime.py threads builds fp16 load --keeps 0.01
    .venv/bin/python benchmarks/runtime.py speed --run runs/NAME

Every part writes into --out (docs/results/runtime.json) and leaves what other calls wrote there, so that a long
measurement can be made piece by piece; the last thing printed are tables of all that is in the file.

Networks have random weights, of which ERK masks leave a share (--keeps, the largest of each layer), and batch norms
whose statistics are those of noise; those for photographs (224 pixels) come from timm. Dense runtimes run them as they
are, in float32, bfloat16 where the processor has it, and int8 calibrated on noise: the engine is the only one that
takes notice of zeros. What is compared with is the best of them. A sample is at least 15 ms of calls, a round one
sample of everybody; times are processor time, except of `threads`, ratios are taken within a round, and the interval is
the 95 % interval of their median.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.optimization import fuse

from drawn import PHOTOS, SMALL, Drawn
from harp import processor
from harp.bench import Subject, subjects
from harp.bench.runners import RUNNERS, Answer
from harp.bench.timing import faster, interleaved, summarised
from harp.config import make_recipe
from harp.errors import HarpError
from harp.export import load
from harp.networks.named import find_network
from harp.package import read
from harp.runs import environment
from harp.runtime import built, compile, variants

KEEPS = (1.0, 0.5, 0.3, 0.1, 0.05, 0.01, 0.001)
DENSE = ("OpenVINO f32", "ONNX Runtime", "torch eager", "torch frozen")
ROUNDED = tuple(name for name, runner in RUNNERS.items() if runner.rounded)
LEAST = 0.015  # seconds
LIBRARIES = ("torch", "onnxruntime", "openvino", "numpy")
FRESH = """
import json, sys, time
began = time.perf_counter()
import torch, harp
imported = time.perf_counter()
network = harp.load(sys.argv[1])
loaded = time.perf_counter()
network(torch.zeros(1, *network.graph.shape))
print(json.dumps({"import": imported - began, "load": loaded - imported, "first image": time.perf_counter() - loaded}))
"""


def dense(subject: Subject, name: str, x: Tensor) -> Answer:
    """A stock runtime, one thread; eager PyTorch with its batch norms folded, as every other runtime folds them."""
    if name != "torch eager":
        return RUNNERS[name].make(subject, x, 1)
    try:
        model = fuse(subject.model)
    except Exception:  # a network that decides by shapes, which torch.fx cannot trace, has none to fold
        model = subject.model
    laid = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda x: laid(x.contiguous(memory_format=torch.channels_last))


def timed(calls: Mapping[str, Answer], x: Tensor, rounds: int) -> tuple[dict[str, Any], dict[str, float]]:
    """Samples of each, after it was seen that all in float32 give the same logits; and how far each one's are off."""
    with torch.inference_mode():
        logits = {name: call(x).clone() for name, call in calls.items()}
        first = next(iter(logits.values()))
        off = {name: ((found - first).abs().max() / first.abs().max()).item() for name, found in logits.items()}
        for name, share in off.items():
            if share > 1e-3 and not (name in ROUNDED or any(call.endswith("_fp16") for call in calls)):
                raise SystemExit(f"{name} gives other logits, by {share:.1e} of the largest")
        return interleaved({name: partial(call, x) for name, call in calls.items()}, rounds, LEAST), off


def compared(samples: Mapping[str, Any], first: str, clock: str) -> dict[str, Any]:
    """Milliseconds of each, and how many times faster `first` is than each other."""
    times = {name: getattr(taken, clock) for name, taken in samples.items()}
    summaries = {name: {k: 1000 * v for k, v in summarised(taken).items()} for name, taken in times.items()}
    ratios = {name: asdict(faster(taken, times[first])) for name, taken in times.items() if name != first}
    return {"ms": summaries, "times_faster": ratios}


def speed(subject: Subject, label: str, keep: float | None, options: argparse.Namespace) -> dict[str, Any]:
    found = {}
    for batch in options.batches:
        x = subject.images(batch)
        calls: dict[str, Answer] = {"harp": load(subject.package, 1)}
        left_out = {}
        for name in (*DENSE, *ROUNDED):
            try:
                calls[name] = dense(subject, name, x)
            except HarpError as error:
                left_out[name] = str(error)
        samples, off = timed(calls, x, options.rounds)
        row = compared(samples, "harp", "cpu")
        best = min(row["times_faster"], key=lambda name: row["ms"][name]["median"])
        best_dense = min(DENSE, key=lambda name: row["ms"][name]["median"])
        about = {"part": "speed", "network": label, "keep": keep, "batch": batch, "rounds": options.rounds}
        more = {"best": best, "best_dense": best_dense, "off": off, "left_out": left_out}
        found[f"speed {label} {keep} {batch}"] = {**about, **more, "bytes": subject.package.stat().st_size, **row}
    return found


def threads(subject: Subject, label: str, keep: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Two threads against one, by the clock."""
    graph, found = read(subject.package).graph, {}
    calls = {"two": compile(graph, threads=2), "one": compile(graph, threads=1)}
    for batch in options.batches:
        row = compared(timed(calls, subject.images(batch), options.rounds)[0], "two", "wall")
        about = {"part": "threads", "network": label, "keep": keep, "batch": batch}
        found[f"threads {label} {keep} {batch}"] = {**about, **row}
    return found


def builds(subject: Subject, label: str, keep: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Each build of the engine against the quickest."""
    return _builds("builds", [name for name in variants() if name in built()], subject, label, keep, options)


def fp16(subject: Subject, label: str, keep: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """The build that keeps 16 bits between layers against the one that keeps 32."""
    return _builds("fp16", [f"{variants()[0]}_fp16", variants()[0]], subject, label, keep, options)


def _builds(
    part: str, names: list[str], subject: Subject, label: str, keep: float | None, options: argparse.Namespace
) -> dict[str, Any]:
    graph, found = read(subject.package).graph, {}
    for batch in options.batches:
        calls = {name: compile(graph, variant=name) for name in names}
        samples, off = timed(calls, subject.images(batch), options.rounds)
        about = {"part": part, "network": label, "keep": keep, "batch": batch, "off": off}
        sizes = {"bytes": {name: built()[name].stat().st_size for name in names}}
        found[f"{part} {label} {keep} {batch}"] = {**about, **sizes, **compared(samples, names[0], "cpu")}
    return found


def loading(subject: Subject, label: str, keep: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds to get ready, in a process that has done nothing and in one that has loaded before."""
    path, x = subject.package, subject.images(1)
    runs = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    fresh = {name: 1000 * statistics.median(run[name] for run in runs) for name in runs[0]}
    warm = [_seconds(lambda: load(path, 1)(x)) for _ in range(15)]
    about = {"part": "load", "network": label, "keep": keep, "bytes": path.stat().st_size}
    return {f"load {label} {keep}": {**about, "fresh": fresh, "warm": 1000 * statistics.median(warm)}}


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


PARTS = {"speed": speed, "threads": threads, "builds": builds, "fp16": fp16, "load": loading}


def table(rows: list[dict[str, Any]], part: str) -> list[str]:
    rows = [row for row in rows if row["part"] == part]
    if not rows:
        return []
    lines = [f"\n{part}\n"]
    if part == "load":
        lines += [
            "| network | kept | bytes | import, ms | load | first image | again, with an image |",
            "|---" * 7 + "|",
        ]
        for row in rows:
            times = " | ".join(f"{ms:.1f}" for ms in (*row["fresh"].values(), row["warm"]))
            lines.append(f"| {row['network']} | {_kept(row)} | {row['bytes']:,} | {times} |")
        return lines
    names = list(dict.fromkeys(name for row in rows for name in row["times_faster"]))
    best = part == "speed"
    mine = next(name for name in rows[0]["ms"] if name not in names)
    heads = [f"{mine}, ms", "p10", *(["best of them"] if best else []), *(f"times {n}" for n in names)]
    lines += [f"| network | kept | batch | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for row in rows:
        cells = [row["times_faster"].get(name) for name in names]
        ratios = " | ".join(f"{c['ratio']:.2f} ({c['low']:.2f}-{c['high']:.2f})" if c else "-" for c in cells)
        times = row["ms"][mine]
        start = f"| {row['network']} | {_kept(row)} | {row['batch']} | {times['median']:.3f} | {times['p10']:.3f} "
        lines.append(f"{start}| {row.get('best', row['best_dense'])} | {ratios} |" if best else f"{start}| {ratios} |")
    return lines


def _kept(row: Mapping[str, Any]) -> str:
    return "-" if row["keep"] is None else f"{100 * row['keep']:g} %"


def written(path: Path, rows: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the file with these rows in place of older ones of the same name, each with how it was made."""
    about = {
        "command": " ".join(["benchmarks/runtime.py", *sys.argv[1:]]),
        "environment": {**environment(torch.device("cpu")), "processor": processor.features()},
    }
    about["versions"] = {name: version(name) for name in LIBRARIES}
    before = json.loads(path.read_text()) if path.exists() else {}
    before |= {name: {**row, **about} for name, row in rows.items()}
    path.write_text(json.dumps(before, indent=1) + "\n")
    return before


def chosen(options: argparse.Namespace, folder: Path) -> list[tuple[Subject, str, float | None]]:
    """The networks to measure: that of a run, or of every name and share."""
    if options.run:
        network = find_network(str(options.run))
        recipe = make_recipe({**network.settings, "device": "cpu", "threads": 1})
        return [(subjects(network, recipe, folder)[0], network.label, None)]
    found: list[tuple[Subject, str, float | None]] = []
    for net in options.nets:
        for keep in options.keeps:
            own = folder / f"{net}-{keep}"
            own.mkdir()
            found.append((Drawn({}, None, own, net=net, keep=keep), net, keep))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    parser.add_argument("--nets", nargs="+", choices=(*SMALL, *PHOTOS), default=SMALL)
    parser.add_argument("--keeps", nargs="+", type=float, default=KEEPS)
    parser.add_argument("--batches", nargs="+", type=int, default=(1, 64))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--run", type=Path, metavar="RUN", help="a run's folder or file, in place of drawn networks")
    parser.add_argument("--out", type=Path, default=Path("docs/results/runtime.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"processor: {processor.sentence()}")
    rows: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        for subject, label, keep in chosen(options, Path(folder)):
            for part in options.parts:
                made = PARTS[part](subject, label, keep, options)
                rows = written(options.out, made)
                print("\n".join(table(list(made.values()), part)), flush=True)
    print("\n".join(line for part in PARTS for line in table(list(rows.values()), part)))


if __name__ == "__main__":
    main()
