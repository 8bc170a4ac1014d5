"""Certified accuracy of a small CIFAR-10 network, dense and pruned, and what proofs take on the engine and on PyTorch.

    .venv/bin/python benchmarks/certified.py [--images 500] [--timed 20] [--out docs/results/certified.json] [--toy]

Networks of the recipe cifar10-ablation (5,000 images), trained under noise of deviation 0.25 with the objectives
gaussian and consistency: one dense network each, pruned by HARP to 10 % and 1 % of its weights. Of each the package is
certified in the engine, so many answers an image, at radii 0.25, 0.5 and 0.75. The first `--timed` images are also
certified by the network as PyTorch runs it, in turns with the engine, one thread each: seconds of wall and processor
time side by side, and whether the certificates are the same. All of it lies in `--folder` (certificates/cifar10), which
nobody commits; what is finished there is not done again, and what was killed goes on. `--toy` is everything in small,
in a folder of its own, to see that it works.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import pinned
from harp.certify import Certificate, Smoothed, Smoothing
from harp.config import find_recipe, make_recipe, read_recipe
from harp.export import load
from harp.networks.certifying import certify_run, whole_steps
from harp.networks.named import find_network, loaded
from harp.pipeline import Workspace
from harp.runs import read_json, write_json
from harp.stages import run_stages

RADII, SIGMA = (0.25, 0.5, 0.75), 0.25
OBJECTIVES = ("gaussian", "consistency")
KEEPS = (None, 0.1, 0.01)  # None: dense
TOY = {"data": {"train": 300}, "model": {"width": 0.25}, "pretrain": {"epochs": 1}, "prune": {"epochs": 1}}


def settings(objective: str, keep: float | None, dense: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe of one network; the last epoch is kept, for validation is under attacks and not under noise."""
    found = dict(read_recipe(find_recipe("cifar10-ablation")))
    found |= {"name": "certified", "seed": options.seed, "threads": 1, "threat": {"norm": "2", "eps": 0.5}}
    found["precision"] = {"channels_last": True}
    if keep is None:
        found["stages"] = ["pretrain"]
    small: Mapping[str, Any] = TOY if options.toy else {}
    stages: dict[str, dict[str, Any]] = {
        "pretrain": {},
        "prune": {} if keep is None else {"keep": keep, "source": str(dense / "1-pretrain" / "model.safetensors")},
        "finetune": {"epochs": 1} if options.toy else {},
    }
    for name, own in stages.items():
        trained = {"objective": objective, "sigma": SIGMA, "selection": "last"}
        found[name] = {**found.get(name, {}), **trained, **small.get(name, {}), **own}
    for name in ("data", "model"):
        found[name] = {**found[name], **small.get(name, {})}
    return found | {"evaluation": {"images": options.images}}


def trained(values: Mapping[str, Any], folder: Path) -> Workspace:
    """The workspace of a network that is trained and exported in `folder`."""
    work = Workspace(make_recipe(values), folder)
    work.run.claim()
    try:
        run_stages(work, ("pretrain", "export") if values.get("stages") else ("prune", "finetune", "export"))
    finally:
        work.run.release()
    return work


def timed(smoothed: Smoothed, image: Tensor) -> tuple[Certificate, dict[str, float]]:
    wall, processor = time.perf_counter(), time.process_time()
    found = smoothed.certify(image)
    return found, {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def side_by_side(folder: Path, images: Tensor, runners: Mapping[str, nn.Module], asked: Smoothing) -> list[Any]:
    """Of each image the seconds that each runner took for its proof, and the proof."""
    rows = []
    smoothed = {name: Smoothed(model, asked) for name, model in runners.items()}
    for place, image in enumerate(images):
        path = folder / f"{place:05d}.json"
        if not path.exists():
            row = {}
            # Noise is drawn once for all images; the first one's cost would be one runner's alone.
            if not place:
                for one in smoothed.values():
                    one.certify(image)
            for name, one in smoothed.items():
                proof, took = timed(one, image)
                row[name] = {**took, "proof": proof.tree()}
            folder.mkdir(parents=True, exist_ok=True)
            write_json(path, row)
        rows.append(read_json(path))
    return rows


def measured(work: Workspace, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What is certified of one network, and what it took."""
    export = work.run.folder / "export"
    package, network = load(export / "package.safetensors", 1), find_network(str(export / "model.safetensors"))
    asked = Smoothing(SIGMA, samples=options.samples, batch=100, seed=options.seed)
    _, told = certify_run(work, package, asked, folder / "certified", folder.name)
    pixels, _ = whole_steps(work.split.test)
    runners = {"engine": package, "torch": loaded(work, network.weights)}
    rows = side_by_side(folder / f"timed-{options.samples}", pixels[: options.timed], runners, asked)
    seconds = {
        name: {kind: sum(row[name][kind] for row in rows) / len(rows) for kind in ("wall", "processor")}
        for name in runners
    }
    return {
        "certified": [row for row in told["certified"] if row["radius"] in (0.0, *RADII)],
        "abstained": told["abstained"],
        "answers": told["answers"],
        "engine": package.engine,
        "seconds_an_image": seconds,
        "timed": len(rows),
        "same_guess": sum(row["engine"]["proof"]["guess"] == row["torch"]["proof"]["guess"] for row in rows),
        "radii_apart": max(abs(row["engine"]["proof"]["radius"] - row["torch"]["proof"]["radius"]) for row in rows),
        "smoothing": told["smoothing"],
        "environment": told["environment"],
    }


def line(name: str, found: Mapping[str, Any]) -> str:
    shares = " | ".join(
        f"{100 * row['share']:.1f} ({100 * row['low']:.1f}-{100 * row['high']:.1f})" for row in found["certified"]
    )
    seconds = found["seconds_an_image"]
    times = [f"{seconds[who][kind]:.1f}" for who in ("engine", "torch") for kind in ("wall", "processor")]
    return f"| {name} | {shares} | {' | '.join(times)} |"


@pinned()
def main(say: Callable[[str], None] = lambda text: print(text, flush=True)) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--samples", type=int, default=10_000, help="answers an image; 10,000 prove up to 0.80")
    parser.add_argument("--timed", type=int, default=20, help="images that PyTorch certifies, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("certificates/cifar10"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    if options.toy:
        options.folder = options.folder.with_name(f"{options.folder.name}-toy")
        options.images, options.samples, options.timed = 4, 300, 2
    keeps = (None, 0.5, 0.3) if options.toy else KEEPS  # 1 % of a toy leaves no path to its logits
    torch.set_num_threads(1)
    told: dict[str, Any] = {}
    say("| network | answered | 0.25 | 0.5 | 0.75 | engine wall | processor | torch wall | processor |")
    say(f"|{'---|' * 9}")
    for objective in OBJECTIVES:
        dense = options.folder / f"{objective}-dense"
        for keep in keeps:
            name = f"{objective}-{'dense' if keep is None else f'{keep:g}'}"
            work = trained(settings(objective, keep, dense, options), options.folder / name)
            told[name] = measured(work, options.folder / name, options)
            say(line(name, told[name]))
            if options.out:
                write_json(options.out, told)


if __name__ == "__main__":
    main()
