"""What the guards around the authors' AutoAttack cost beside the bare package, on the same network and points.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/guards.py [--attack apgd-ce] [--points 64] [--rounds 8] [--out FILE]

Both run in one process and take turns, bare, guarded, guarded, bare ..., so that a busy machine slows both; what is
compared is the process's own seconds. Prints the median of the paired ratios with a 95 % bootstrap interval, the median
seconds of each, and `outside`: the share of a guarded call that is not spent in the package, which needs no pairs and
so is the sharper number on a busy machine. APGD-CE is the shortest of the attacks on points that hold, so the one on
which a fixed cost weighs most; FAB gains, since the guards spare it the gradients of weights.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harp import Threat
from harp.attacks.official import NORMS, Official
from harp.extras import need
from harp.models import build
from harp.runs import write_json
from step_cost import interval

PACKAGE = need("pyautoattack", "attacks", "AutoAttack")
Engine = Callable[[nn.Module, Tensor, Tensor, Threat], Tensor]


def bare(name: str) -> Engine:
    def attack(model: nn.Module, x: Tensor, y: Tensor, threat: Threat) -> Tensor:
        auto = PACKAGE.AutoAttack(model, norm=NORMS[threat.norm], eps=threat.eps, seed=0, version="standard")
        auto.verbose, auto.attacks_to_run = False, [name]
        adv: Tensor = auto.run_standard_evaluation(x, y, batch_size=len(x))[0]
        return adv

    return attack


def guarded(name: str) -> Engine:
    return lambda model, x, y, threat: Official(name)(model, x, y, threat, torch.Generator())


def seconds(engine: Engine, model: nn.Module, x: Tensor, y: Tensor) -> float:
    start = time.process_time()
    engine(model, x, y, Threat(eps=8 / 255))
    return time.process_time() - start


class Timed(PACKAGE.AutoAttack):  # type: ignore[misc, name-defined]
    """The package's object, which tells how long its evaluations took."""

    spent: ClassVar[list[float]] = []

    def run_standard_evaluation(self, *args: Any, **options: Any) -> Any:
        start = time.process_time()
        result = super().run_standard_evaluation(*args, **options)
        self.spent.append(time.process_time() - start)
        return result


def compare(name: str, points: int, rounds: int) -> dict[str, Any]:
    torch.manual_seed(0)
    model = build("cifar_cnn", classes=10, channels=3, size=32).eval()
    x = torch.rand(points, 3, 32, 32)
    with torch.no_grad():
        y = model(x).argmax(1)
    PACKAGE.AutoAttack = Timed
    engines, pairs, outside = (bare(name), guarded(name)), [], []
    first, second = (engine(model, x, y, Threat(eps=8 / 255)) for engine in engines)  # the first calls warm caches
    for turn in range(rounds):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        spent = {}
        for which in order:
            spent[which] = seconds(engines[which], model, x, y)
            if which == 1:
                outside.append(1 - Timed.spent[-1] / spent[1])
        pairs.append((spent[0], spent[1]))
    ratios = [ours / theirs for theirs, ours in pairs]
    low, high = interval(ratios)
    return {
        "attack": name,
        "points": points,
        "rounds": rounds,
        "same_images": torch.equal(first, second),
        "ratio": round(statistics.median(ratios), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "outside": round(statistics.median(outside), 4),
        "bare_seconds": round(statistics.median(theirs for theirs, _ in pairs), 3),
        "guarded_seconds": round(statistics.median(ours for _, ours in pairs), 3),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", nargs="+", default=["apgd-ce"])
    parser.add_argument("--points", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    for name in options.attack:
        rows.append(compare(name, options.points, options.rounds))
        print(json.dumps(rows[-1]), flush=True)
    if options.out:
        write_json(options.out, rows)


if __name__ == "__main__":
    main()
