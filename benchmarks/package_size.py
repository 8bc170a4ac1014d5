"""How small a pruned network's package is: against the least its non-zeros need, and against the dense file.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/package_size.py [--out docs/results/package-size.json]
    .venv/bin/python benchmarks/package_size.py MODEL.safetensors [--dense STATE.safetensors]

Without a file: VGG-16 and ResNet-18 for CIFAR-10 with random weights and statistics, of which 10, 5, 1 and 0.1 % stay,
shared out over the layers by ERK, the largest of each; batch norms folded; in each precision. `bound` is
sum log2 C(n, k) + b k bits over the weights, b bits a value, and everything else as it is. The dense file is the
network's `state_dict` as safetensors. Reading is the median processor time of fifteen, checks of the graph apart.

With a file: its parts and tensors, and how much smaller it is than these dense, or than the file that --dense names.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import safetensors.torch
import torch

from harp.export.fold import fold
from harp.graph import Graph, capture, check
from harp.package import PRECISIONS, Manifest, Sizes, read, sizes, write
from harp.sparsity import ALLOCATIONS, Budget, Weights, allot, find_sites, top_mask
from networks import shaken

NETWORKS = ("vgg16_bn", "resnet18")
KEPT = (0.1, 0.05, 0.01, 0.001)
READS = 15


@torch.no_grad()
def pruned(name: str, keep: float) -> tuple[Graph, int]:
    """The folded graph, and the length of the dense network's file."""
    model = shaken(name)
    dense = len(safetensors.torch.save(model.state_dict()))
    units = Weights(find_sites(model))
    counts = allot(units, Budget(keep, floor=0.0), ALLOCATIONS["erk"](units))
    for site in units.sites:
        site.param.masked_fill_(~top_mask(site.param.abs(), counts[site.name]), 0)
    return fold(capture(model, torch.rand(2, 3, 32, 32))), dense


def seconds(call: Any, *arguments: Any) -> float:
    """Median processor time."""
    times = []
    for _ in range(READS):
        began = time.process_time()
        call(*arguments)
        times.append(time.process_time() - began)
    return statistics.median(times)


def measure(name: str, keep: float, path: Path) -> Iterator[dict[str, Any]]:
    graph, dense = pruned(name, keep)
    for values in PRECISIONS:
        found = write(path, graph, Manifest(name=name), values)
        whole, checking = seconds(read, path), seconds(check, read(path).graph)
        yield {
            "network": name,
            "kept": keep,
            "values": values,
            "nonzeros": sum(tensor.nonzeros for tensor in found.tensors if len(tensor.shape) > 1),
            "bytes": found.bytes,
            "bound": round(found.bound),
            "to_bound": round(found.bytes / found.bound, 4),
            "dense": dense,
            "smaller": round(dense / found.bytes, 1),
            "parts": dict(found.parts),
            "read_ms": round(1000 * (whole - checking), 1),
            "check_ms": round(1000 * checking, 1),
        }


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| network | kept | values | bytes | to the bound | times smaller | read, ms |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        cells = f"| {row['network']} | {100 * row['kept']:g} % | {row['values']} | {row['bytes']:,} "
        yield f"{cells}| {row['to_bound']:.3f} | {row['smaller']:.1f} | {row['read_ms']:.1f} |"


def describe(path: Path, dense: Path | None) -> Iterator[str]:
    """A package's parts and tensors as two tables, and two ratios."""
    found: Sizes = sizes(path)
    yield "| part | bytes |\n|---|---|"
    yield from (f"| {part} | {count:,} |" for part, count in found.parts.items())
    yield f"| all | {found.bytes:,} |\n"
    yield "| tensor | shape | non-zeros | index | values | bound |\n|---|---|---|---|---|---|"
    for tensor in found.tensors:
        cells = f"| {tensor.name} | {'x'.join(map(str, tensor.shape))} | {tensor.nonzeros:,} "
        yield f"{cells}| {tensor.index:,} | {tensor.values:,} | {tensor.bound:,.0f} |"
    graph = read(path).graph
    whole = sum(graph.tensor(name).nbytes for name in graph.tensors)
    whole, name = (whole, "its tensors dense") if dense is None else (dense.stat().st_size, dense.name)
    yield f"\n{found.bytes / found.bound:.3f} of the bound, {whole / found.bytes:.1f} times smaller than {name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--dense", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.file:
        print("\n".join(describe(options.file, options.dense)))
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "package.safetensors")
        rows = [row for name in NETWORKS for keep in KEPT for row in measure(name, keep, path)]
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
