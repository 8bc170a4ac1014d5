"""How much faster our AutoAttack is than its authors' package, on the same network, points and settings.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/autoattack.py --out docs/results/autoattack.json
        [--shards 4] [--size 64] [--bf16] [NAME=RUN/STAGE ...]

The images come in shards. Each attack of `standard` runs on what those before it left of a shard, by one engine and
right after it by the other, taking turns at going first; both are given the points that the package left. Processor
time of one thread. The ratio is that of the sums, with a 95 % bootstrap interval over the shards. `apgd-ce` is also
the single attack of the claim about networks that half of the points survive: the share that survives is told.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import harp
from agreement import network
from harp.attacks import Attack, Quick, autoattack
from harp.attacks.losses import wrong
from harp.randomness import Keyed
from harp.runs import environment, write_json

NETWORKS = ("cifar10 10 %=runs/cifar10-small-keep0.1/3-finetune", "digits 1 %=runs/digits-seed1/3-finetune")


def timed(attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: harp.Threat) -> tuple[float, Tensor]:
    """Seconds of processor time, and which points are left, bool [n]."""
    noise = Keyed.of(torch.arange(len(x)), 0, "speed")
    began = time.process_time()
    adv = attack(model, x, y, threat, noise)
    seconds = time.process_time() - began
    with torch.no_grad():
        return seconds, ~wrong(model(adv), y)


def measured(where: Path, shards: int, size: int, bf16: bool) -> dict[str, Any]:
    model, x, y, threat = network(where, shards * size)
    engines: dict[str, Mapping[str, Attack]] = {
        "package": autoattack(norm=threat.norm, engine="official", batch=size),
        "harp": {
            name: Quick(attack, bf16)
            for name, attack in autoattack(norm=threat.norm, engine="harp", batch=size).items()
        },
    }
    seconds: dict[str, dict[str, list[float]]] = {engine: defaultdict(list) for engine in engines}
    left: dict[str, dict[str, int]] = {engine: defaultdict(int) for engine in engines}
    entered: dict[str, int] = defaultdict(int)
    for shard, (images, labels) in enumerate(zip(torch.split(x, size), torch.split(y, size), strict=True)):
        with torch.no_grad():
            right = ~wrong(model(images), labels)
        images, labels = images[right], labels[right]
        for name in engines["package"]:
            entered[name] += len(images)
            order = list(engines) if shard % 2 else list(reversed(engines))
            held = {}
            for engine in order:
                spent, held[engine] = timed(engines[engine][name], model, images, labels, threat)
                seconds[engine][name].append(spent)
                left[engine][name] += int(held[engine].sum())
            images, labels = images[held["package"]], labels[held["package"]]
        print(f"shard {shard}: {len(images)} left", flush=True)
    rows = {
        name: {"entered": entered[name], "left": {e: left[e][name] for e in engines}, **ratio(seconds, [name])}
        for name in engines["package"]
    }
    return {"eps": threat.eps, **rows, "standard": ratio(seconds, list(engines["package"]))}


def ratio(seconds: dict[str, dict[str, list[float]]], names: list[str]) -> dict[str, Any]:
    """The package's seconds over ours, over all shards, with its interval; and both sums."""
    totals = {e: [sum(parts) for parts in zip(*(rows[n] for n in names), strict=True)] for e, rows in seconds.items()}
    draw = random.Random(0)
    places = range(len(totals["harp"]))
    again = [draw.choices(places, k=len(places)) for _ in range(2000)]
    ratios = sorted(sum(totals["package"][i] for i in c) / sum(totals["harp"][i] for i in c) for c in again)
    return {
        "ratio": sum(totals["package"]) / sum(totals["harp"]),
        "low": ratios[50],
        "high": ratios[-50],
        "seconds": {engine: sum(parts) for engine, parts in totals.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NAME=RUN/STAGE")
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--bf16", action="store_true", help="ours searches in bfloat16, which is no headline")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = {}
    for what in options.networks:
        name, _, where = what.partition("=")
        results[name] = measured(Path(where), options.shards, options.size, options.bf16)
        for attack, row in results[name].items():
            if isinstance(row, dict):
                print(f"{name}, {attack}: {row['ratio']:.2f} ({row['low']:.2f}-{row['high']:.2f})", flush=True)
    if options.out:
        record = {"shards": options.shards, "size": options.size, "bf16": options.bf16}
        write_json(options.out, {**record, "environment": environment(torch.device("cpu")), "results": results})


if __name__ == "__main__":
    main()
