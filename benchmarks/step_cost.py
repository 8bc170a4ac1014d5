"""What one HARP step costs beside one dense PGD-10 step of the same network, batch and threads.

    .venv/bin/python benchmarks/step_cost.py [--model resnet18] [--batch 128] [--rounds 15] [--threads 2]

Both trainers run in one process and take turns, dense, HARP, dense, HARP ..., so that a busy machine slows both.
Prints the median of the paired ratios with a 95 % bootstrap interval, and the median seconds of each.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch

from harp import PGD, PGDAT, Budget, Harp, Pruner, Threat, find_sites, fit, sgd
from harp.models import build
from harp.pruners import Course


class Fixed:
    """One random batch, again and again; `handed` is when it was last handed out, which begins a step."""

    steps_per_epoch = 100

    def __init__(self, batch: int, size: int):
        noise = torch.Generator().manual_seed(0)
        self.x = torch.rand(batch, 3, size, size, generator=noise)
        self.y = torch.arange(batch) % 10
        self.handed = 0.0

    def after(self, step: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            self.handed = time.perf_counter()
            yield self.x, self.y

    def once(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter([(self.x, self.y)])


def stepper(model_name: str, batch: int, harp: bool) -> Callable[[int], float]:
    """A function that takes optimizer step number n and tells its seconds."""
    torch.manual_seed(0)
    model = build(model_name, classes=10, channels=3, size=32)
    sites = find_sites(model)
    pruner = Harp(sites, Budget(0.01), course=Course(100)) if harp else Pruner(sites)
    optimizer, data = sgd(model, pruner, lr=0.01), Fixed(batch, 32)
    objective = PGDAT(PGD(steps=10), Threat(eps=8 / 255))

    def step(n: int) -> float:
        ended: list[float] = []
        fit(
            model,
            data,
            objective=objective,
            optimizer=optimizer,
            pruner=pruner,
            until=n + 1,
            start=n,
            on=[lambda _: ended.append(time.perf_counter())],
        )
        return ended[0] - data.handed

    return step


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    draws = numpy.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = numpy.quantile(numpy.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare(model: str, batch: int, rounds: int) -> dict[str, Any]:
    dense, harp = stepper(model, batch, harp=False), stepper(model, batch, harp=True)
    dense(0), harp(0)  # first calls plan kernels and fill caches
    pairs = [(dense(n), harp(n)) for n in range(1, rounds + 1)]
    ratios = [h / d for d, h in pairs]
    low, high = interval(ratios)
    return {
        "model": model,
        "batch": batch,
        "rounds": rounds,
        "ratio": round(statistics.median(ratios), 3),
        "low": round(low, 3),
        "high": round(high, 3),
        "dense_seconds": round(statistics.median(d for d, _ in pairs), 4),
        "harp_seconds": round(statistics.median(h for _, h in pairs), 4),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["cifar_cnn", "resnet18", "vgg16_bn"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for model in options.model:
        print(json.dumps(compare(model, options.batch, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
