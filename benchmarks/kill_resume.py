"""Kills a run 30 times at random moments, resumes it each time, and compares it with an uninterrupted one.

    .venv/bin/python benchmarks/kill_resume.py

The run is every stage on the digits, small enough to take about a minute. A child process runs `harp run`, is killed
(SIGKILL) after a random time, and is started again in the same folder; after every kill each file that has its final
name must be readable. At the end weights, masks, rates, metrics and flags must be the uninterrupted run's, byte for
byte. Then it starts anew, until the wanted number of kills is reached. Exit status 1 where a byte differs.
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
from pathlib import Path

from safetensors import safe_open

RECIPE = """
name: kills
data: {name: digits, train: 400}
model: {name: digits_cnn, width: 0.5}
threat: {eps: 0.1}
attack: {steps: 3}
pretrain: {epochs: 15, batch_size: 64, checkpoint_every: 2it}
prune: {epochs: 15, batch_size: 64, checkpoint_every: 2it, gamma: 0.5, keep: 0.02}
finetune: {epochs: 15, batch_size: 64, checkpoint_every: 3it}
evaluation: {restarts: 2, steps: 10, images: 100}
"""
COMPARED = ("*.safetensors", "metrics.jsonl", "results.json", "allocation.json", "manifest.json")


def start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harp", "run", str(folder.parent / "kills.yaml"), "--folder", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(folder: Path) -> float:
    """The seconds that the same command took to the end; raises where it fails."""
    began = time.monotonic()
    process = start(folder)
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the run failed with {process.returncode}:\n{out.decode()}")
    return time.monotonic() - began


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for pattern in COMPARED for p in folder.rglob(pattern)}


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
    for stage in ("1-pretrain", "2-prune", "3-finetune", "evaluation", "export"):
        if not (folder / stage / "done.json").exists():
            return stage
    return "report"


def kill_once(folder: Path, seconds: float) -> str | None:
    """The stage in which the run was killed after so many seconds, or None where it had ended before."""
    process = start(folder)
    try:
        process.wait(seconds)
        return None
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return stage_under_way(folder) if folder.exists() else "start"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, kills, runs, read = random.Random(options.seed), Counter[str](), 0, 0
    with tempfile.TemporaryDirectory() as box:
        (Path(box) / "kills.yaml").write_text(RECIPE)
        whole = Path(box) / "whole"
        length = finish(whole)
        expected = contents(whole)
        print(f"uninterrupted: {length:.0f} s, {len(expected)} files to compare", flush=True)
        while kills.total() < options.kills:
            folder = Path(box) / f"killed-{runs}"
            # Two seconds go by before a start does any work; then up to a quarter of the run, so that each start gets
            # somewhere and several kills hit one run.
            while stage := kill_once(folder, rng.uniform(2, 2 + length / 4)):
                kills[stage] += 1
                read += check_readable(folder)
                print(f"kill {kills.total()} in {stage}", flush=True)
                if kills.total() >= options.kills:
                    break
            finish(folder)
            runs += 1
            different = [name for name, data in contents(folder).items() if expected.get(name) != data]
            missing = expected.keys() - contents(folder).keys()
            if different or missing:
                raise SystemExit(f"run {runs} differs from the uninterrupted one: {different} {missing}")
            print(f"run {runs}: bit-identical", flush=True)
    print(f"{kills.total()} kills over {runs} runs, {dict(kills)}; {read} files read after kills, all whole; identical")


if __name__ == "__main__":
    main()
