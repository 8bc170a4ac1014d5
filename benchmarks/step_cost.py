"""What one HARP step costs beside one dense PGD-10 step, and beside one as the published code makes it.

    .venv/bin/python benchmarks/step_cost.py [--model resnet18] [--batch 128] [--rounds 15] [--threads 2] [--bf16]

Same network, batch and threads. All trainers run in one process and take turns, dense, HARP, published, dense ..., so
that a busy machine slows all. "Published" has that code's structure (METHODS 1.4 to 1.10): every forward pass, those of
the attack included, sorts each layer's scores to make its mask, the gradient passes through the mask to scores and
weights, and a clean train-mode forward pass comes first; it is float32. `--bf16` lets dense and HARP autocast, in
channels_last. Prints the median of the paired ratios with a 95 % bootstrap interval, and the median seconds of
processor time of each, which other work on the machine disturbs less than the clock; and the arithmetic of the dense
step as a share of what this machine was seen to do at most: of the fastest of the network's own convolutions, run bare
at the same batch, layout and precision, and of all of them one after the other.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harp import PGD, PGDAT, Budget, Harp, Pruner, Threat, find_sites, fit, sgd
from harp.models import build
from harp.pruners import Course
from harp.runs import environment
from harp.training import Precision


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
            self.handed = time.process_time()
            yield self.x, self.y

    def once(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return iter([(self.x, self.y)])


class Sorted(torch.autograd.Function):
    """The mask of a share of the scores, the highest ones; its gradient is the scores'."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, keep: float) -> Tensor:
        mask, order = torch.ones_like(scores), scores.flatten().sort()[1]
        mask.view(-1)[order[: int((1 - keep) * scores.numel())]] = 0
        return mask

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class Scored(nn.Module):
    """A layer's weights under the mask of its scores, made anew whenever they are asked for."""

    def __init__(self, weight: Tensor, keep: float):
        super().__init__()
        self.scores, self.keep = nn.Parameter(weight.detach().abs().clone()), keep

    def forward(self, weight: Tensor) -> Tensor:
        mask: Tensor = Sorted.apply(self.scores, self.keep)  # type: ignore[no-untyped-call]
        return weight * mask


def published(model_name: str, batch: int) -> Callable[[int], float]:
    """As `stepper`, with the structure of the published code."""
    torch.manual_seed(0)
    model = build(model_name, classes=10, channels=3, size=32)
    for site in find_sites(model):
        owner = model.get_submodule(site.name.rpartition(".")[0])
        parametrize.register_parametrization(owner, "weight", Scored(site.param, 0.01))
    x, y = next(Fixed(batch, 32).after(0))
    attack, threat = PGD(steps=10), Threat(eps=8 / 255)
    trained = [param for name, param in model.named_parameters() if not name.endswith("original")]
    optimizer = torch.optim.SGD(trained, lr=0.01, momentum=0.9, weight_decay=5e-4)

    def step(n: int) -> float:
        began = time.process_time()
        model(x)
        adv = attack(model, x, y, threat, torch.Generator().manual_seed(n))
        loss = nn.functional.cross_entropy(model(adv), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return time.process_time() - began

    return step


def stepper(model_name: str, batch: int, harp: bool, precision: Precision) -> Callable[[int], float]:
    """A function that takes optimizer step number n and tells its seconds."""
    torch.manual_seed(0)
    model = build(model_name, classes=10, channels=3, size=32)
    if precision.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
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
            precision=precision,
            on=[lambda _: ended.append(time.process_time())],
        )
        return ended[0] - data.handed

    return step


def bare(model_name: str, batch: int, precision: Precision) -> list[dict[str, float]]:
    """Of each convolution of a network alone: operations and seconds of forward pass and gradient of its input."""
    kind = torch.float32 if precision.bf16 == "none" else torch.bfloat16
    layout = torch.channels_last if precision.channels_last else torch.contiguous_format
    model = build(model_name, classes=10, channels=3, size=32)
    model.to(memory_format=layout)  # type: ignore[call-overload]
    found: list[dict[str, float]] = []

    def measure(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        x = given[0].detach().to(kind).requires_grad_()
        own, grad = copy.deepcopy(layer).to(kind).requires_grad_(False), out.detach().to(kind)
        seconds = []
        for _ in range(5):
            began = time.process_time()
            torch.autograd.grad(own.forward(x), x, grad)
            seconds.append(time.process_time() - began)
        found.append({"operations": 4 * out.numel() * own.weight[0].numel(), "seconds": min(seconds)})

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(measure)
    model(torch.rand(batch, 3, 32, 32).to(memory_format=layout))
    return found


def shares(convolutions: list[dict[str, float]], step: float) -> dict[str, float]:
    """The arithmetic of a dense PGD-10 step of so many seconds as a share of what its convolutions do alone."""
    passes = 11.5  # ten steps and training itself, forward and backward, and the gradients of weights
    operations = passes * sum(each["operations"] for each in convolutions)
    fastest = max(each["operations"] / each["seconds"] for each in convolutions)
    together = sum(each["operations"] for each in convolutions) / sum(each["seconds"] for each in convolutions)
    return {
        "gigaflops": round(operations / step / 1e9, 1),
        "fastest": round(operations / step / fastest, 3),
        "all": round(operations / step / together, 3),
    }


def interval(ratios: list[float]) -> tuple[float, float]:
    """The 95 % bootstrap interval of the median."""
    draws = numpy.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    low, high = numpy.quantile(numpy.median(draws, axis=1), [0.025, 0.975])
    return float(low), float(high)


def ratio(times: list[tuple[float, ...]], over: int, under: int) -> dict[str, float]:
    """The median of the paired ratios, and its interval."""
    ratios = [turn[over] / turn[under] for turn in times]
    found = (statistics.median(ratios), *interval(ratios))
    return dict(zip(("ratio", "low", "high"), (round(value, 3) for value in found), strict=True))


def compare(model: str, batch: int, rounds: int, bf16: bool) -> dict[str, Any]:
    precision = Precision(bf16="both" if bf16 else "none", channels_last=bf16)
    steps = [stepper(model, batch, False, precision), stepper(model, batch, True, precision), published(model, batch)]
    for step in steps:
        step(0)  # first calls plan kernels and fill caches
    times = [tuple(step(n) for step in steps) for n in range(1, rounds + 1)]
    seconds = [round(statistics.median(turns), 4) for turns in zip(*times, strict=True)]
    return {
        "model": model,
        "batch": batch,
        "rounds": rounds,
        "bf16": bf16,
        "harp_over_dense": ratio(times, 1, 0),
        "published_over_harp": ratio(times, 2, 1),
        "share_of_convolutions": shares(bare(model, batch, precision), seconds[0]),
        "seconds": dict(zip(("dense", "harp", "published"), seconds, strict=True)),
        "environment": environment(torch.device("cpu")),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["cifar_cnn", "resnet18", "vgg16_bn"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    for model in options.model:
        print(json.dumps(compare(model, options.batch, options.rounds, options.bf16)), flush=True)


if __name__ == "__main__":
    main()
