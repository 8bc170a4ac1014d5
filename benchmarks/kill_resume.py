"""Kills a command 30 times at random moments, resumes it each time, and compares the end with an uninterrupted one.

    .venv/bin/python benchmarks/kill_resume.py [--kills 30] [--engine official|harp] [--certify smoothing|intervals]

The command is `harp run`, every stage on the digits, small enough to take about a minute; with `--engine` it is
`harp evaluate` on that run's network, AutoAttack `standard` by that engine, and with `--certify` it is `harp certify`
on it, image by image or batch by batch. A child process is killed (SIGKILL) after
a random time and started again in the same folder; after every kill each file that has its final name must be
readable. At the end weights, masks, rates, metrics, and the record of every attack must be the uninterrupted
command's, byte for byte. Then it starts anew, until the wanted number of kills is reached. Exit status 1 where a byte
differs.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open

RECIPE = """
name: kills
data: {name: digits, train: 400}
model: {name: digits_cnn, width: 0.5}
threat: {eps: 0.1}
attack: {steps: 3}
pretrain: {epochs: 15, batch_size: 64, checkpoint_every: 2it}
prune: {epochs: 15, batch_size: 64, checkpoint_every: 2it, options: {gamma: 0.5}, keep: 0.02}
finetune: {epochs: 15, batch_size: 64, checkpoint_every: 3it}
evaluation: {restarts: 2, steps: 10, images: 100}
"""
COMPARED = (
    *("*.safetensors", "metrics.jsonl", "result*.json", "allocation.json", "manifest.json"),
    *("asked.json", "certified.*", "bounded.json"),
)
TIMED = ("result.json", "certified.json", "bounded.json")
Command = Sequence[str]


def start(command: Command, folder: Path) -> subprocess.Popen[bytes]:
    whole = [sys.executable, "-m", "harp", *command, "--folder", str(folder)]
    return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(command: Command, folder: Path) -> float:
    """The seconds that the same command took to the end; raises where it fails."""
    began = time.monotonic()
    process = start(command, folder)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run failed with {process.returncode}:\n{out.decode()}")
    return time.monotonic() - began


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): _told(p) for pattern in COMPARED for p in folder.rglob(pattern)}


def _told(path: Path) -> bytes:
    """The file's bytes; of a result without the checkout's commit of the moment, the time it took, and the seal."""
    if path.name not in TIMED:
        return path.read_bytes()
    return json.dumps({**json.loads(path.read_text()), "environment": None, "seconds": None, "seal": None}).encode()


def check_readable(folder: Path) -> int:
    """How many finished files were read; any that is not whole raises."""
    checked = 0
    for path in folder.rglob("*"):
        if path.suffix == ".safetensors":
            with safe_open(path, "np") as file:
                for name in file.keys():  # noqa: SIM118
                    file.get_tensor(name)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        checked += path.is_file()
    return checked


def stage_under_way(folder: Path) -> str:
    if not (folder / "recipe.yaml").exists():
        return max((p.name.rpartition("-")[0] for p in folder.glob("*-*.safetensors")), default="clean")
    for stage in ("1-pretrain", "2-prune", "3-finetune", "evaluation", "export"):
        if not (folder / stage / "done.json").exists():
            return stage
    return "report"


def kill_once(command: Command, folder: Path, seconds: float) -> str | None:
    """The stage in which the command was killed after so many seconds, or None where it had ended before."""
    process = start(command, folder)
    try:
        process.wait(seconds)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return stage_under_way(folder) if folder.exists() else "start"


def asked(options: argparse.Namespace, run: Path) -> list[str]:
    """The command about the network of a run."""
    if options.engine:
        found = ["evaluate", str(run), "--engine", options.engine, "--batch_size", "10"]
    else:
        own = {"smoothing": ["--sigma", "0.25", "--samples", str(options.samples)], "intervals": ["--batch", "1"]}
        found = ["certify", str(run), "--by", options.certify, *own[options.certify]]
    return [*found, "--images", str(options.images)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("official", "harp"))
    parser.add_argument("--certify", choices=("smoothing", "intervals"))
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--samples", type=int, default=2000, help="answers an image, under --certify smoothing")
    options = parser.parse_args()
    rng, kills, runs, read = random.Random(options.seed), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as box:
        (Path(box) / "kills.yaml").write_text(RECIPE)
        whole, command = Path(box) / "whole", ["run", str(Path(box) / "kills.yaml")]
        length = finish(command, whole)
        if options.engine or options.certify:
            command = asked(options, whole)
            whole = Path(box) / "asked"
            length = finish(command, whole)
        expected = contents(whole)
        idle = finish(command, whole)  # what a start takes before it does any work
        print(
            f"uninterrupted: {length:.0f} s, of which {idle:.0f} to start; {len(expected)} files to compare", flush=True
        )
        while kills.total() < options.kills:
            folder = Path(box) / f"killed-{runs}"
            # Up to a quarter of the work, so that each start gets somewhere and several kills hit one run.
            while stage := kill_once(command, folder, rng.uniform(idle, idle + max(length - idle, 1) / 4)):
                kills[stage] += 1
                read += check_readable(folder)
                print(f"kill {kills.total()} in {stage}", flush=True)
                if kills.total() >= options.kills:
                    break
            finish(command, folder)
            runs += 1
            different = [name for name, data in contents(folder).items() if expected.get(name) != data]
            missing = expected.keys() - contents(folder).keys()
            if different or missing:
                raise SystemExit(f"run {runs} differs from the uninterrupted one: {different} {missing}")
            print(f"run {runs}: bit-identical", flush=True)
    print(f"{kills.total()} kills over {runs} runs, {dict(kills)}; {read} files read after kills, all whole; identical")


if __name__ == "__main__":
    main()
