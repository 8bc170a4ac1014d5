"""What computing activations again costs in time, and saves in memory.

    .venv/bin/python benchmarks/recompute.py [--model imagenet_resnet50] [--size 224] [--batch 16] [--rounds 3]

PGD-AT with two steps, three optimizer steps a process. Each measure is a process of its own, for its peak of memory is
the process's; with and without take turns. Prints, for both, the peak above that of a process which only builds the
network, and the median of the paired ratios of seconds a step, and writes them to docs/results/recompute.json.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch

from harp import PGD, PGDAT, Pruner, Threat, find_sites, fit, sgd
from harp.models import build
from harp.runs import environment
from harp.training import Precision

RESULT = Path(__file__).parents[1] / "docs" / "results" / "recompute.json"


def measure(name: str, size: int, batch: int, mode: str) -> None:
    """Prints the peak of this process's memory, MB, and the seconds of its last two steps."""
    model = build(name, classes=10, channels=3, size=(size, size), width=1.0)
    times: list[float] = []
    if mode != "built":
        data = [(torch.rand(batch, 3, size, size), torch.arange(batch) % 10)]
        pruner = Pruner(find_sites(model))
        fit(
            model,
            data,
            objective=PGDAT(PGD(steps=2), Threat()),
            optimizer=sgd(model, pruner, lr=0.01),
            pruner=pruner,
            until=3,
            precision=Precision(recompute=mode == "recompute"),
            on=[lambda moment: times.append(time.perf_counter())],
        )
    seconds = times[-1] - times[0] if times else 0.0
    print(json.dumps([getrusage(RUSAGE_SELF).ru_maxrss / 1024, seconds / 2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="imagenet_resnet50")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mode", choices=["built", "held", "recompute"], help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.mode:
        measure(asked.model, asked.size, asked.batch, asked.mode)
        return
    found: dict[str, list[tuple[float, float]]] = {"built": [], "held": [], "recompute": []}
    for number in range(asked.rounds):
        for mode in found:
            given = ["--model", asked.model, "--size", str(asked.size), "--batch", str(asked.batch), "--mode", mode]
            done = subprocess.run([sys.executable, __file__, *given], check=True, capture_output=True, text=True)
            found[mode].append(tuple(json.loads(done.stdout)))
            print(f"round {number + 1}: {mode} {found[mode][-1]}", file=sys.stderr)
    base = min(peak for peak, _ in found["built"])
    held, again = (round(statistics.median(peak for peak, _ in found[mode]) - base) for mode in ("held", "recompute"))
    pairs = zip(found["held"], found["recompute"], strict=True)
    ratio = statistics.median(other[1] / one[1] for one, other in pairs)
    told = {
        "command": " ".join(["benchmarks/recompute.py", *sys.argv[1:]]),
        "network": asked.model,
        "size": asked.size,
        "batch": asked.batch,
        "rounds": asked.rounds,
        "held_mb": held,
        "recomputed_mb": again,
        "time_ratio": round(ratio, 2),
        "environment": environment(torch.device("cpu")),
    }
    RESULT.write_text(json.dumps(told, indent=1) + "\n")
    print(f"{held} MB held, {again} MB recomputed ({again / held:.2f} of it), {ratio:.2f} times the time")


if __name__ == "__main__":
    main()
