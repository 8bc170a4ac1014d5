"""How much sooner long PGD is done when images that repeat themselves bit for bit are spared the rest.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/stopping.py --out docs/results/stopping.json
        [--steps 50 100] [--rounds 3] [NAME=RUN/STAGE ...]

Validation as in training: `correct` on the run's held-out images, PGD with steps of eps / 4, one thread. All steps and
stopping take turns; the ratio is of processor time, the median over rounds with its interval. Verdicts, and every bit
of every image, are compared in each round. `bound` is the ratio if an image left at once when it repeats itself, at no
cost: steps, over the mean number of steps before an iterate of an image is one that it had before.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks.losses import crossentropy, gradient, wrong
from harp.attacks.pgd import PGD, Measure
from harp.bench.timing import faster
from harp.config import make_recipe, read_recipe
from harp.evaluation import correct
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.randomness import Keyed, Noise
from harp.runs import environment, write_json
from harp.threats import Threat

NETWORKS = (
    "digits dense=runs/digits/1-pretrain",
    "cifar10 dense=arenas/cifar10/dense-seed0/1-pretrain",
)
BATCH = 250


@dataclass(frozen=True)
class EveryStep(PGD):
    """The same attack, all steps made."""

    def _reached(self, model: nn.Module, x: Tensor, measure: Any, threat: Threat, noise: Noise) -> Tensor:
        made: Measure = measure
        return self._ascend(model, x, made, threat, noise)


@dataclass
class Kept:
    """An attack, and the images that it made last."""

    attack: PGD
    made: list[Tensor]

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise) -> Tensor:
        self.made.append(self.attack(model, x, y, threat, noise))
        return self.made[-1]


def validation(where: Path) -> tuple[nn.Module, list[tuple[Tensor, Tensor]], Threat]:
    work = Workspace(make_recipe(read_recipe(where.parent / "recipe.yaml")), where.parent, Display())
    held = work.split.validation
    assert held is not None
    return (
        work.loaded(where / "model.safetensors", small=True).eval(),
        list(work.in_order(held, BATCH).once()),
        work.threat,
    )


def repeated_after(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, attack: PGD) -> Tensor:
    """For each image that the model gets right how many steps it takes to come back to an iterate; `steps` at most."""
    with torch.no_grad():
        right = ~wrong(model(x), y)
    x, y = x[right], y[right]
    adv = threat.start(x, Keyed.of(torch.arange(len(x)), 0, "bound"))
    before, after = [adv], torch.full([len(x)], attack.steps)
    for step in range(1, attack.steps):
        probe = adv.detach().requires_grad_()
        grad = gradient(crossentropy(model(probe), y).sum(), probe)
        adv = threat.project(adv + threat.step(grad, attack.step * threat.eps), x)
        back = torch.stack([(adv == image).flatten(1).all(1) for image in before]).any(0)
        after = torch.where(back, after.clamp(max=step), after)
        before.append(adv)
    return after


def measured(where: Path, steps: int, rounds: int) -> dict[str, Any]:
    model, batches, threat = validation(where)
    attacks, taken = {"every": EveryStep(steps), "stopped": PGD(steps)}, {"every": [], "stopped": []}  # type: ignore[var-annotated]
    same_images, same_verdicts = True, True
    for turn in range(rounds):
        found = {}
        for name in sorted(attacks, reverse=bool(turn % 2)):
            kept = Kept(attacks[name], [])
            began = time.process_time()
            right = correct(model, batches, kept, threat, turn, "validation", "benchmark")
            taken[name].append(time.process_time() - began)
            found[name] = right, kept.made
        same_verdicts &= torch.equal(found["every"][0], found["stopped"][0])
        same_images &= all(map(torch.equal, found["every"][1], found["stopped"][1]))
        held = int(found["every"][0].sum())
    after = torch.cat([repeated_after(model, x, y, threat, attacks["every"]) for x, y in batches])
    return {
        "steps": steps,
        "images": sum(len(y) for _, y in batches),
        "attacked": len(after),
        "held": held,
        **asdict(faster(taken["every"], taken["stopped"])),
        "bound": steps / float(after.double().mean()),
        "repeated": float((after < steps).double().mean()),
        "same verdicts": same_verdicts,
        "same images": same_images,
        "seconds": taken,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NAME=RUN/STAGE")
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    own = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, list[dict[str, Any]]] = {}
    for what in own.networks:
        name, _, where = what.partition("=")
        for steps in own.steps:
            row = measured(Path(where), steps, own.rounds)
            results.setdefault(name, []).append(row)
            told = f"{row['ratio']:.2f} ({row['low']:.2f}-{row['high']:.2f}) times as fast, at most {row['bound']:.2f}"
            same = f"same verdicts: {row['same verdicts']}, same images: {row['same images']}"
            print(f"{name}, PGD-{steps}: {told}; {same}", flush=True)
    if own.out:
        record = {"rounds": own.rounds, "batch": BATCH, "environment": environment(torch.device("cpu"))}
        write_json(own.out, {**record, "results": results})


if __name__ == "__main__":
    main()
