"""Whether a budget of latency is met by the clock: networks pruned to shares of their own time in harp's engine.

    OMP_NUM_THREADS=1 taskset -c 0 .venv/bin/python benchmarks/latency.py [--nets cifar_cnn resnet18] [--out FILE]

Networks have random weights; a budget is shared out by each allocation, and the largest of each layer are kept. All of
a network are timed in turns, one image on one thread, processor time; a sample is at least 10 ms of calls. The share is
the median over rounds of a pruned network's time over the dense one's, both in the engine.
"""

import argparse
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from harp import processor
from harp.bench.timing import faster, interleaved
from harp.export import Deployed, latency, load, pack
from harp.runs import environment
from harp.sparsity import Budget, Weights, allocation, allot, find_units, top_mask
from networks import shaken

ALLOCATIONS = ("erk", "lamp", "uniform")
LEAST = 0.01  # seconds


def packed(model: nn.Module, x: Tensor) -> Deployed:
    """The network as `harp bench` times it: from its package, on one thread."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "package.safetensors")
        pack(model, x, path)
        return load(path, 1)


def measured(net: str, keeps: list[float], rounds: int) -> list[dict[str, Any]]:
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    engines = {"dense": packed(shaken(net).eval(), x)}
    rows: dict[str, dict[str, Any]] = {}
    for keep in keeps:
        prices = None
        for name in ALLOCATIONS:
            model = shaken(net).eval()
            units = find_units(model, x[:1])
            assert isinstance(units, Weights)
            prices = units.latency = prices or latency(model, x[:1], units.sites, keep)
            counts = allot(units, units.budget(Budget(keep, "latency")), allocation(name, units))
            for site in units.sites:
                site.param.data *= top_mask(site.param.data.abs(), counts[site.name])
            label = f"{name} {keep:g}"
            engines[label] = packed(model, x)
            weights = sum(counts.values()) / sum(units.sizes)
            rows[label] = {"network": net, "allocation": name, "keep": keep, "weights": weights}
            print(label, f"{100 * weights:.2f} % of the weights", flush=True)
    samples = interleaved({name: partial(engine, x[:1]) for name, engine in engines.items()}, rounds, LEAST)
    for label, row in rows.items():
        shares = faster(samples[label].cpu, samples["dense"].cpu)
        row |= {"share": asdict(shares), "seconds": min(samples[label].cpu), "dense": min(samples["dense"].cpu)}
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=["cifar_cnn", "resnet18"])
    parser.add_argument("--keeps", nargs="+", type=float, default=[0.4, 0.2])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, default=Path("docs/results/latency.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = {**environment(torch.device("cpu")), "processor": processor.features()}
    rows = [row for net in options.nets for row in measured(net, options.keeps, options.rounds)]
    options.out.write_text(json.dumps({"rounds": options.rounds, "environment": about, "rows": rows}, indent=1) + "\n")
    print("| network | shared out by | asked for | by the clock | weights left |\n|---|---|--:|--:|--:|")
    for row in rows:
        share = row["share"]
        clock = f"{100 * share['ratio']:.1f} % ({100 * share['low']:.1f}-{100 * share['high']:.1f})"
        asked = f"{100 * row['keep']:g} %"
        print(f"| {row['network']} | {row['allocation']} | {asked} | {clock} | {100 * row['weights']:.2f} % |")


if __name__ == "__main__":
    main()
