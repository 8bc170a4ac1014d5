"""Fills the zoo from the finished cells of an arena: packages, each evaluated as it will be loaded, with a card.

python benchmarks/zoo.py arenas/cifar10 --recipe cifar10-small --keep 0.01 --rows harp,hydra,LAMP --images 1000

A cell enters under RECIPE-ROW and its sparsity, such as cifar10-small-harp99, unless a doubt is open about it. What is
measured is the package rebuilt as a module with gradients, under the cell's own evaluation, on one thread, so that
`harp evaluate zoo:NAME` repeats it. The record stays in --records, from where a killed run goes on.
"""

import argparse
from pathlib import Path
from typing import Any

from harp.config import make_recipe
from harp.export import Rebuilt
from harp.networks.assess import assess_run
from harp.package import Package, read
from harp.pipeline import Workspace
from harp.pipeline.kept import settings_in
from harp.runs import file_digest, read_json
from harp.zoo import FOLDER, Card, enter, find, in_words

# Of the cell's recipe what decides a verdict, its attacks included.
MEASURED = ("attacks", "engine", "bf16", "steps", "restarts", "step", "batch_size", "images", "doubts")


def settings_of(recipe: Any, images: int | None) -> dict[str, Any]:
    """The settings of a recipe that repeat the cell's evaluation, on so many images."""
    values = recipe.model_dump(mode="json")
    evaluation = {name: values["evaluation"][name] for name in MEASURED}
    return {
        "seed": values["seed"],
        "threads": 1,
        "device": "cpu",
        "data": {"name": values["data"]["name"]},
        "threat": values["threat"],
        "evaluation": {**evaluation, **({"images": images} if images else {})},
    }


def card_of(cell: Path, package: Package, recipe: Any, settings: dict[str, Any], records: Path, name: str) -> Card:
    """The network measured, as it will be loaded."""
    path = cell / "export" / "package.safetensors"
    work = Workspace(make_recipe({**settings, "model": {"name": str(path)}}), records / name)
    assess_run(work, Rebuilt(package.graph), records / name, name)
    result = read_json(records / name / "result.json")
    dropped = ("seal", "model", "weights", "code", "seconds")
    counts = package.manifest.counts
    assert counts is not None
    return Card(
        method=recipe.name,
        keep=recipe.prune.keep,
        settings=settings,
        result={key: value for key, value in result.items() if key not in dropped},
        counts=vars(counts),
        bytes=path.stat().st_size,
        source={
            "seed": recipe.seed,
            "training images": recipe.data.train,
            "options": dict(recipe.prune.options),
            "model": recipe.model.name,
            "sha256": file_digest(cell / "export" / "model.safetensors"),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arena", type=Path)
    parser.add_argument("--recipe", required=True, help="what the names begin with")
    parser.add_argument("--keep", default="0.1,0.05,0.01", help="budgets of the cells")
    parser.add_argument("--rows", help="rows by name (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, help="evaluate so many test images (default: as the cell)")
    parser.add_argument("--records", type=Path, default=Path("evaluations/zoo"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the zoo")
    own = parser.parse_args()
    for keep in own.keep.split(","):
        for cell in sorted(own.arena.glob(f"cells/*-{keep}-seed{own.seed}")):
            row = cell.name.removesuffix(f"-{keep}-seed{own.seed}")
            if own.rows and row not in own.rows.split(","):
                continue
            if not (cell / "export" / "done.json").exists():
                print(f"{cell.name}: not finished")
                continue
            result = read_json(cell / "evaluation" / "finetuned" / "result.json")
            if result["robust"] is None:
                print(f"{cell.name}: left out, a doubt is open about it")
                continue
            recipe = make_recipe(settings_in(cell / "recipe.yaml"))
            name = f"{own.recipe}-{row.lower()}{100 - 100 * float(keep):g}"
            path = cell / "export" / "package.safetensors"
            card = card_of(cell, read(path), recipe, settings_of(recipe, own.images), own.records, name)
            if card.result["robust"] is None:
                print(f"{name}: left out, a doubt is open about its package")
                continue
            enter(name, path.read_bytes(), card, own.folder)
            print(f"{name}: {in_words(find(name, own.folder).card)}")


if __name__ == "__main__":
    main()
