"""What a GPU is asked once it is at hand: is it right, how fast is it, and which method leads at full size?

    .venv/bin/python benchmarks/device.py --data shards --folder arenas/device --minutes 9 --out device.json

Three parts, in ten minutes of one card. "agreement": on the digits, masks settled from the same scores on the card and
on the processor, masks of two searches of twenty steps, and the verdicts of AutoAttack (our engine) in float32, point
by point. "speed": images per second of a PGD-10 training step of ResNet-18 in bfloat16 and channels_last, its share of
the bfloat16 matrix products that the card is measured to do, and HARP's step over a dense one, in turns. "arena":
ResNet-18 on all of CIFAR-10 (`--data`: a folder with its Parquet files) at 99 % under HARP, LAMP and HYDRA from one
dense network, as many epochs as fit into what is left of `--minutes` at the speed just measured, AutoAttack on 1,000
test images. The arena resumes: the same command with the same `--epochs` goes on where it was stopped. `--parts` names
those to run. Where there is no card the script is tried by

    --device cpu --model cifar_cnn --batch 64 --images 64 --train 640 --bf16 none --rounds 2 --epochs 4
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import harp
from harp.data.base import Images, Labelled
from harp.data.digits import digits
from harp.models import build
from harp.runs import environment, write_json
from step_cost import interval

EPS = harp.Threat(eps=8 / 255)
ROWS = ["harp", {"LAMP": {"prune": {"method": "magnitude", "options": {"allocation": "lamp"}}}}, "hydra"]
STAGES = {"pretrain": 0.5, "prune": 0.25, "finetune": 0.25}
"""How the epochs of a row are shared out; the first is made once, the others for each row."""
EVALUATION = 150.0
"""Seconds kept back for AutoAttack on four networks, packages and figures."""


class Kept:
    """Batches on a device, again and again."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]], device: torch.device):
        self.batches = [(x.to(device), y.to(device)) for x, y in batches]
        self.steps_per_epoch = len(batches)

    def after(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield self.batches[step % len(self.batches)]
            step += 1

    def once(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


def finished(device: torch.device) -> float:
    """The time, once everything that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def searched(model: nn.Module, data: Kept, pruner: harp.Pruner, until: int) -> None:
    objective = harp.PGDAT(harp.PGD(steps=5), harp.Threat(eps=0.1))
    harp.fit(model, data, objective=objective, optimizer=harp.sgd(model, pruner, lr=0.05), pruner=pruner, until=until)


def searcher(model: nn.Module) -> harp.Harp:
    options = harp.HarpOptions(gamma=0.1)
    return harp.Harp(harp.find_sites(model), harp.Budget(0.01), options=options, course=harp.Course(20, 20))


def same_entries(ours: harp.Masks, theirs: harp.Masks) -> float:
    """The share of all entries in which two sets of masks agree."""
    pairs = [(mask.cpu(), theirs[name].cpu()) for name, mask in ours.items()]
    return sum(int((a == b).sum()) for a, b in pairs) / sum(a.numel() for a, _ in pairs)


def batches(part: Labelled, images: int, size: int) -> list[tuple[Tensor, Tensor]]:
    """The first images of a part in memory, as the networks see them."""
    assert isinstance(part, Images)
    return [
        (part.images[at : at + size].float() / 255, part.labels[at : at + size])
        for at in range(0, min(images, len(part)), size)
    ]


def agreement(device: torch.device, images: int) -> dict[str, Any]:
    """How far the device and the processor tell the same, on the digits."""
    parts = digits(None)
    train, test = batches(parts.train, 1280, 64), batches(parts.test, images, 128)
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    dense = build("digits_cnn", classes=10, channels=1, size=8)
    searched(dense, Kept(train, cpu), harp.Pruner(harp.find_sites(dense)), 100)
    masks, later, verdicts = [], [], []
    for place in (cpu, device):
        model = build("digits_cnn", classes=10, channels=1, size=8).to(place)
        model.load_state_dict(dense.state_dict())
        found = harp.evaluate(model, Kept(test, place), harp.autoattack(norm=float("inf")), harp.Threat(eps=0.1))
        verdicts.append({name: flags.cpu() for name, flags in found.flags.items()})
        masks.append(searcher(model).settle())
        model.load_state_dict(dense.state_dict())
        search = searcher(model)
        searched(model, Kept(train, place), search, 20)
        later.append(search.settle())
    differing = {name: int((flags != verdicts[1][name]).sum()) for name, flags in verdicts[0].items()}
    return {
        "images": len(verdicts[0]["clean"]),
        "verdicts that differ": differing,
        "same mask entries, from the same scores": same_entries(*masks),
        "same mask entries, after 20 steps": same_entries(*later),
    }


def peak(device: torch.device, side: int) -> float:
    """Multiply-adds a second of bfloat16 matrix products of this size: the best of ten."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(12):
        began = finished(device)
        a @ b
        times.append(finished(device) - began)
    return side**3 / float(min(times[2:]))


class Stepper:
    """A network that is trained; calling it makes one epoch of few steps and tells the seconds of one step."""

    def __init__(self, name: str, data: Kept, sparse: bool, precision: harp.Precision):
        torch.manual_seed(0)
        self.device = data.batches[0][0].device
        self.model = build(name, classes=10, channels=3, size=32).to(self.device)
        sites = harp.find_sites(self.model)
        self.pruner = (
            harp.Harp(sites, harp.Budget(0.01), course=harp.Course(100, 1000)) if sparse else harp.Pruner(sites)
        )
        self.optimizer, self.data = harp.sgd(self.model, self.pruner, lr=0.01), data
        self.precision = precision
        self.step = 0

    def __call__(self, steps: int) -> float:
        times: list[float] = []
        harp.fit(
            self.model,
            self.data,
            objective=harp.PGDAT(harp.PGD(steps=10), EPS),
            optimizer=self.optimizer,
            pruner=self.pruner,
            until=self.step + steps + 1,
            start=self.step,
            precision=self.precision,
            on=[lambda _: times.append(finished(self.device))],
        )
        self.step += steps + 1
        return (times[-1] - times[0]) / steps  # the first step of a call may compile


def speed(device: torch.device, name: str, batch: int, rounds: int, precision: harp.Precision) -> dict[str, Any]:
    """Images a second, the share of the card that they use, and what HARP adds to a step."""
    noise = torch.Generator().manual_seed(0)
    data = Kept([(torch.rand(batch, 3, 32, 32, generator=noise), torch.arange(batch) % 10)], device)
    dense, sparse = (Stepper(name, data, sparse, precision) for sparse in (False, True))
    steps = 5 if device.type == "cuda" else 1
    dense(steps), sparse(steps)
    turns = [(dense(steps), sparse(steps)) for _ in range(rounds)]
    seconds = statistics.median(turn[0] for turn in turns)
    ratios = [turn[1] / turn[0] for turn in turns]
    plain = build(name, classes=10, channels=3, size=32)
    products = sum(harp.trace_macs(plain, torch.zeros(1, 3, 32, 32)).values()) * 3 * 11  # ten of the attack, one step
    best = peak(device, 8192 if device.type == "cuda" else 512)
    return {
        "model": name,
        "batch": batch,
        "precision": repr(precision),
        "images per second": batch / seconds,
        "share of the peak": products * batch / seconds / best,
        "peak, TFLOP/s": 2 * best / 1e12,
        "HARP's step over dense": [statistics.median(ratios), *interval(ratios)],
    }


def fitting_epochs(images_per_second: float, seconds: float, images: int) -> int:
    """How many epochs a row can have in all, pretraining included, in so many seconds."""
    passes = STAGES["pretrain"] + len(ROWS) * (STAGES["prune"] + STAGES["finetune"])
    return max(4, int(seconds * images_per_second / images / passes))


def grid(options: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """The grid of the arena on the card."""
    stages = {n: {"epochs": max(1, round(epochs * share)), "batch_size": options.batch} for n, share in STAGES.items()}
    warm = {"schedule": "warm"}
    data = {"path": str(options.data.absolute())} | ({"train": options.train} if options.train else {})
    settings = {
        "pretrain": stages["pretrain"] | warm,
        "prune": stages["prune"],
        "finetune": stages["finetune"] | warm,
        "data": data,
        "model": {"name": options.model},
        "threat": {"eps": "8/255"},
        "device": str(options.device),
        "precision": {"channels_last": True, "bf16": options.bf16, "compile": options.compile},
        "evaluation": {"attacks": ["standard"], "engine": "harp", "images": options.images},
    }
    return {"name": "device", "recipe": "cifar10-resnet18", "settings": settings, "rows": ROWS, "keeps": [0.01]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--folder", type=Path, default=Path("arenas/device"))
    parser.add_argument("--out", type=Path, default=Path("device.json"))
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--epochs", type=int, help="of a row in all; without it as many as fit")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--train", type=int, help="so many training images instead of all")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", choices=["none", "both"], default="both")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--parts", nargs="+", default=["agreement", "speed", "arena"])
    options = parser.parse_args()
    precision = harp.Precision(bf16=options.bf16, channels_last=True, compile=options.compile)
    began, found = time.monotonic(), {"environment": environment(options.device)}
    if "agreement" in options.parts:
        found["agreement"] = agreement(options.device, options.images)
        write_json(options.out, found)
        print(found["agreement"], flush=True)
    if "speed" in options.parts:
        found["speed"] = speed(options.device, options.model, options.batch, options.rounds, precision)
        write_json(options.out, found)
        print(found["speed"], flush=True)
    if "arena" in options.parts:
        left = options.minutes * 60 - (time.monotonic() - began) - EVALUATION
        pace = found.get("speed", {}).get("images per second", 1000.0)
        epochs = options.epochs or fitting_epochs(pace, left, options.train or 49_000)
        print(f"{epochs} epochs a row; the same again: --parts arena --epochs {epochs}", flush=True)
        results = harp.arena(grid(options, epochs), options.folder)
        found["arena"] = {"epochs": epochs, **results.model_dump()}
        write_json(options.out, found)
        # Without the published rows, whose length would push ours out of what is seen of a far machine's output.
        print((options.folder / "arena.md").read_text().partition("## Published")[0])


if __name__ == "__main__":
    main()
