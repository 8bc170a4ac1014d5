"""How much quicker an attack's questions are answered by what a package of a pruned network computes.

    .venv/bin/python benchmarks/searching.py [--rounds 15] [--batch 64] [--out FILE]

Random masks leave the same share of every layer; eval mode, one thread. The folded copy that every network has and the
sparse one answer in turns; ratios are of processor time, the median over rounds with its 95 % interval.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.attacks.surrogate import Copies
from harp.bench.timing import faster, interleaved
from harp.models import build
from harp.networks.sparse import copies
from harp.runs import environment
from harp.sparsity import find_weights

NETWORKS = {"cifar_cnn": 1.0, "resnet18": 0.5}
LEFT = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3)


def pruned(name: str, width: float, left: float, x: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = build(name, classes=10, channels=3, size=32, width=width)
    with torch.no_grad():
        for site in find_weights(model):
            site.param.mul_(torch.rand(site.param.shape) < left)
        for _ in range(30):
            model(x)  # running statistics of its own
    return model.eval()


def uphill(model: nn.Module, x: Tensor) -> None:
    image = x.detach().requires_grad_()
    model(image).square().sum().backward()


@torch.no_grad()
def asked(model: nn.Module, x: Tensor) -> None:
    model(x)


def ratios(name: str, left: float, batch: int, rounds: int) -> dict[str, Any]:
    x = torch.rand(batch, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = pruned(name, NETWORKS[name], left, x)
    folded, sparse = Copies.of(model, x[:16], bf16=False), copies(model, x[:16])
    last = x.contiguous(memory_format=torch.channels_last)
    quick, blind = folded.quick, folded.blind
    assert quick is not None
    assert blind is not None
    calls = {
        "gradient": lambda: uphill(quick, last),
        "sparse gradient": lambda: uphill(sparse.quick, x),
        "answer": lambda: asked(blind, last),
        "sparse answer": lambda: asked(sparse.blind, x),
    }
    taken = interleaved(calls, rounds, 0.05)
    found = {kind: asdict(faster(taken[kind].cpu, taken[f"sparse {kind}"].cpu)) for kind in ("gradient", "answer")}
    return {"network": name, "width": NETWORKS[name], "left": left, **found}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path)
    own = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in NETWORKS:
        for left in LEFT:
            rows.append(ratios(name, left, own.batch, own.rounds))
            told = (
                f"{kind} {rows[-1][kind]['ratio']:.2f} ({rows[-1][kind]['low']:.2f}-{rows[-1][kind]['high']:.2f})"
                for kind in ("gradient", "answer")
            )
            print(f"{name} {100 * left:g} % left, times as quick: {', '.join(told)}", flush=True)
    if own.out:
        about = {"batch": own.batch, "rounds": own.rounds, "environment": environment(torch.device("cpu"))}
        own.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
