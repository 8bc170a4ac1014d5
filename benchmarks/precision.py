"""What channels_last, bfloat16 and torch.compile do to the time of an adversarial training step, and what they cost.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/precision.py --out docs/results/precision.json
        [--recipe cifar10-small --weights runs/NAME/1-pretrain/model.safetensors] [--rounds 11 3]

Speed: all variants take turns in one process, one optimizer step of PGD-AT each, so that a busy machine slows all;
the ratio of each to float32 is the median over rounds with a 95 % bootstrap interval. Fidelity, on a trained network:
the loss and accuracy that a variant's attack leaves when float32 judges it, and the cosine between the weight gradient
of its step and that of float32, on the same adversarial images and on its own. "other noise" is float32 itself with
another random start, the yardstick for both. Without `--weights` the network is trained for `--epochs` first.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy

from harp import PGD, PGDAT, Precision, Pruner, Threat, find_sites, fit, sgd
from harp.config import find_recipe, make_recipe, read_recipe
from harp.models import build
from harp.modes import evaluating
from harp.pipeline import Workspace
from harp.runs import environment, write_json
from step_cost import Fixed, interval

VARIANTS = {
    "float32": Precision(),
    "channels_last": Precision(channels_last=True),
    "bf16 attack": Precision(bf16="attack"),
    "bf16 both": Precision(bf16="both"),
    "channels_last, bf16 attack": Precision(channels_last=True, bf16="attack"),
    "channels_last, bf16 both": Precision(channels_last=True, bf16="both"),
    "compile": Precision(compile=True),
}
MODELS = {"cifar_cnn": 64, "resnet18": 32}  # batch sizes
BATCHES, BATCH = 4, 112  # the images fidelity is measured on: as many as fit into the 449 digits


class Trainer:
    """One network in one precision; calling it takes an optimizer step and tells its seconds."""

    def __init__(self, name: str, batch: int, precision: Precision, attack: PGD):
        torch.manual_seed(0)
        self.model = build(name, classes=10, channels=3, size=32)
        self.pruner = Pruner(find_sites(self.model))
        self.optimizer = sgd(self.model, self.pruner, lr=0.01)
        self.data, self.precision = Fixed(batch, 32), precision
        self.objective = PGDAT(attack, Threat(eps=8 / 255))

    def __call__(self) -> float:
        ended: list[float] = []
        fit(
            self.model,
            self.data,
            objective=self.objective,
            optimizer=self.optimizer,
            pruner=self.pruner,
            until=1,
            precision=self.precision,
            on=[lambda _: ended.append(time.perf_counter())],
        )
        return ended[0] - self.data.handed


def speed(name: str, batch: int, steps: int, rounds: int, variants: Mapping[str, Precision]) -> list[dict[str, Any]]:
    """For each variant its seconds a step, their ratio to float32's, and how much longer the first took."""
    trainers = {v: Trainer(name, batch, precision, PGD(steps=steps)) for v, precision in variants.items()}
    first = {v: trainer() for v, trainer in trainers.items()}
    times = [{v: trainer() for v, trainer in trainers.items()} for _ in range(rounds)]
    rows: list[dict[str, Any]] = []
    for variant in variants:
        ratios = [row[variant] / row["float32"] for row in times]
        low, high = interval(ratios)
        median = statistics.median(row[variant] for row in times)
        what = {"model": name, "batch": batch, "pgd_steps": steps, "rounds": rounds, "variant": variant}
        ratio = {"ratio": round(statistics.median(ratios), 3), "low": round(low, 3), "high": round(high, 3)}
        rows.append({**what, **ratio, "seconds": round(median, 4), "first": round(first[variant] - median, 1)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def trained(work: Workspace, weights: Path | None, epochs: int) -> nn.Module:
    """The recipe's dense network: from `weights`, or adversarially trained in float32 for `epochs`."""
    if weights is not None:
        return work.loaded(weights)
    settings, model = work.recipe.pretrain, work.model()
    data, pruner = work.batches("pretrain", settings.batch_size), Pruner(find_sites(model))
    optimizer = sgd(model, pruner, lr=settings.lr)
    until = epochs * data.steps_per_epoch
    fit(model, data, objective=work.objective(settings, data), optimizer=optimizer, pruner=pruner, until=until)
    return model


def gradient(model: nn.Module, precision: Precision, adv: Tensor, y: Tensor) -> Tensor:
    """All weight gradients of the step on `adv` as one vector; `model` is not changed."""
    twin = precision.lay_out(copy.deepcopy(model)).train()
    cross_entropy(precision.view(twin)(adv), y).backward()  # type: ignore[no-untyped-call]
    return torch.cat([param.grad.flatten() for param in twin.parameters() if param.grad is not None])


def fidelity(work: Workspace, model: nn.Module) -> list[dict[str, Any]]:
    """For each variant, over the first test images: loss and accuracy under its attack, cosines of its gradients."""
    attack, threat = work.training_attack, work.threat
    kept = list(zip(range(BATCHES), work.in_order(work.split.test, BATCH).once(), strict=False))
    sums: dict[str, list[Tensor]] = {}
    for number, (x, y) in kept:
        exact: dict[str, Tensor] = {}
        for variant, precision in {**VARIANTS, "other noise": Precision()}.items():
            noise = torch.Generator(x.device).manual_seed(number + (BATCHES if variant == "other noise" else 0))
            twin = precision.lay_out(copy.deepcopy(model))
            adv = attack(precision.view(twin), x, y, threat, noise).contiguous()
            with evaluating(model), torch.no_grad():
                logits = model(adv)
            own = gradient(model, precision, adv, y)
            exact.setdefault("adv", adv), exact.setdefault("gradient", own)
            same = gradient(model, precision, exact["adv"], y)
            cosines = [cosine_similarity(g, exact["gradient"], 0) for g in (same, own)]
            right = (logits.argmax(1) == y).float().mean()
            sums.setdefault(variant, []).append(torch.stack([cross_entropy(logits, y), right, *cosines]).detach())
    rows = []
    for variant, values in sums.items():
        loss, right, same, own = torch.stack(values).mean(0).tolist()
        row = {"variant": variant, "loss": round(loss, 4), "accuracy": round(right, 4)}
        rows.append({**row, "cosine_same_images": round(same, 5), "cosine_own_images": round(own, 5)})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _variants(compiled: bool) -> dict[str, Precision]:
    return {name: precision for name, precision in VARIANTS.items() if compiled or not precision.compile}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, nargs=len(MODELS), default=[11, 3], help=f"for {', '.join(MODELS)}")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10], help="of PGD")
    parser.add_argument("--compile", nargs="*", default=["cifar_cnn"], help="networks compiled too; it takes minutes")
    parser.add_argument("--recipe", default="digits")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    work = Workspace(make_recipe(read_recipe(find_recipe(options.recipe))))
    model = trained(work, options.weights, options.epochs)
    origin = "/".join(options.weights.parts[-3:]) if options.weights else f"{options.epochs} epochs"
    record: dict[str, Any] = {"recipe": options.recipe, "weights": origin}
    record["fidelity"] = fidelity(work, model)
    record["speed"] = [
        row
        for (name, batch), rounds in zip(MODELS.items(), options.rounds, strict=True)
        for steps in options.steps
        for row in speed(name, batch, steps, rounds, _variants(name in options.compile))
    ]
    record["environment"] = environment(torch.device("cpu"))
    if options.out:
        write_json(options.out, record)


if __name__ == "__main__":
    main()
