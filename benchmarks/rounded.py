"""What rounded values cost: a run's package written in each precision, and each network attacked anew.

    .venv/bin/python benchmarks/rounded.py runs/NAME [runs/NAME ...] [--out docs/results/rounded.json]

Attacks, images and seed are those of the run's evaluation, and search the network as it is read back from the file.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

import harp
from harp.config import make_recipe, read_recipe
from harp.networks.assess import Asked, assess
from harp.package import PRECISIONS, read, write
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.runs import environment


def measure(run: Path, values: str, folder: Path) -> dict[str, Any]:
    """The evaluation of the run's package with such values."""
    work = Workspace(make_recipe(read_recipe(run / "recipe.yaml")), run, Display())
    package, path = read(run / "export" / "package.safetensors"), folder / f"{values}.safetensors"
    write(path, package.graph, package.manifest, values)
    settings = work.recipe.evaluation
    asked = Asked(work.threat, settings, work.recipe.seed, work.display, f"{run.name}, {values}")
    outcome = assess(harp.load(path).module, work.in_order(work.split.test, settings.batch_size), asked)
    about = {"run": run.name, "values": values, "bytes": path.stat().st_size, "attacks": list(settings.attacks)}
    return {**about, **outcome.values()}


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| run | values | bytes | clean | under every attack | 95 % interval |", "|---|---|---|---|---|---|"]
    for row in rows:
        clean, worst = row["measures"]["clean"], row["measures"]["worst"]
        cells = f"| {row['run']} | {row['values']} | {row['bytes']:,} | {100 * clean['accuracy']:.1f} % "
        low, high = (f"{100 * worst[end]:.1f}" for end in ("low", "high"))
        lines.append(f"{cells}| {100 * worst['accuracy']:.1f} % | {low}-{high} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        rows = [measure(run, values, Path(folder)) for run in options.runs for values in PRECISIONS]
    if options.out:
        made = {"environment": environment(torch.device("cpu")), "rows": rows}
        options.out.write_text(json.dumps(made, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
