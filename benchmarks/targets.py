"""How much sooner APGD is through with 100 classes in MALT's order of targets than in AutoAttack's, at equal verdicts.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/targets.py --out docs/results/targets.json [--images 128] [--rounds 2]

There being no set of 100 classes at hand, one is made of handwritten digits: two beside one another, 1x8x16, whose
class is the number that they write, from 00 to 99. The network (`digits_cnn`, half the width) is trained in some
minutes, adversarially; training and test pairs are of different digits. Both orders then attack what it gets right,
target by target: 100 steps of APGD-DLR-T towards the first of each image's order on all images, towards the second on
what is left, and so on to the ninth. Processor time of one thread, that of finding the order included; they take turns
at going first. `ratio`: the time of AutoAttack's nine targets over that of as many of MALT's as break no fewer of the
images, the median over rounds.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from harp.attacks import APGD, MALT, PGD
from harp.attacks.losses import wrong
from harp.data import load
from harp.models import build
from harp.randomness import Keyed, generator
from harp.runs import environment, write_json
from harp.threats import Threat

THREAT, TARGETS = Threat(eps=0.1), 9


def pairs(images: Tensor, labels: Tensor, n: int, name: str) -> tuple[Tensor, Tensor]:
    """`n` pairs drawn at random, float [n, 1, 8, 16], and the numbers that they write."""
    left, right = torch.randint(len(labels), (2, n), generator=generator(0, name))
    return torch.cat([images[left], images[right]], 3), 10 * labels[left] + labels[right]


def trained(x: Tensor, y: Tensor, epochs: int) -> nn.Module:
    torch.manual_seed(0)
    model = build("digits_cnn", classes=100, channels=1, size=(8, 16), width=0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    batches = len(x) // 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * batches)
    numbers, attack = generator(0, "training"), PGD(steps=2, step=0.6)
    for _ in range(epochs):
        for places in torch.randperm(len(x), generator=numbers)[: 64 * batches].split(64):  # type: ignore[no-untyped-call]
            adv = attack(model, x[places], y[places], THREAT, numbers)
            optimizer.zero_grad()
            cross_entropy(model.train()(adv), y[places]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return model.eval()


@dataclass(frozen=True)
class Towards(APGD):
    """APGD towards classes that are given, one for each image; for all images at once."""

    classes: tuple[int, ...] = ()

    def aims(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        return torch.tensor(self.classes)[:, None]


def through(order: APGD, model: nn.Module, x: Tensor, y: Tensor) -> tuple[list[float], list[Tensor]]:
    """Seconds until every image's first, second, ... target was tried, and which images are left then, bool [n]."""
    began = time.process_time()
    aims, left = order.aims(model, x, y, THREAT), torch.ones_like(y, dtype=torch.bool)
    seconds, after = [], []
    for rank in range(TARGETS):
        places = left.nonzero().squeeze(1)
        attack = Towards("dlr", targets=1, classes=tuple(aims[places, rank].tolist()))
        adv = attack(model, x[places], y[places], THREAT, Keyed.of(places, 0, "targets").at(rank))
        with torch.no_grad():
            left = left.index_put((places,), ~wrong(model(adv), y[places]))
        seconds.append(time.process_time() - began)
        after.append(left)
    return seconds, after


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--train", type=int, default=6000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    own = parser.parse_args()
    torch.set_num_threads(1)
    digits = load("digits")
    sets = {"train": (digits.train, own.train), "test": (digits.test, own.images)}
    made = {name: pairs(part.images.float() / 255, part.labels, n, name) for name, (part, n) in sets.items()}
    model, (x, y) = trained(*made["train"], own.epochs), made["test"]
    with torch.no_grad():
        right = ~wrong(model(x), y)
    print(f"{int(right.sum())} of {len(x)} right", flush=True)
    x, y = x[right], y[right]
    orders = {"likeliest": APGD("dlr", targets=TARGETS), "malt": MALT("dlr", targets=TARGETS)}
    seconds: dict[str, list[list[float]]] = {name: [] for name in orders}
    after: dict[str, list[Tensor]] = {}
    for turn in range(own.rounds):
        for name in sorted(orders, reverse=bool(turn % 2)):
            spent, after[name] = through(orders[name], model, x, y)
            seconds[name].append(spent)
    left = {name: [int(each.sum()) for each in found] for name, found in after.items()}
    enough = next(k for k in range(TARGETS) if left["malt"][k] <= left["likeliest"][-1] or k == TARGETS - 1)
    nine, few = after["likeliest"][-1], after["malt"][enough]
    ratios = [theirs[-1] / ours[enough] for theirs, ours in zip(seconds["likeliest"], seconds["malt"], strict=True)]
    result: dict[str, Any] = {
        "images": own.images,
        "right": len(y),
        "left": left,
        "seconds": seconds,
        "malt's targets": enough + 1,
        "other verdicts": int((nine != few).sum()),
        "ratios": ratios,
        "ratio": median(ratios),
    }
    print(result, flush=True)
    if own.out:
        about = {"train": own.train, "epochs": own.epochs, "eps": THREAT.eps}
        write_json(own.out, {**about, "environment": environment(torch.device("cpu")), **result})


if __name__ == "__main__":
    main()
