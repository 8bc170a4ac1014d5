"""HARP's learned rates against the same pipeline with uniform ones, from the same dense networks.

    .venv/bin/python benchmarks/uniform_rates.py digits --seeds 0 1 2
    .venv/bin/python benchmarks/uniform_rates.py digits-channels --seeds 0 1 2
    .venv/bin/python benchmarks/uniform_rates.py cifar10-small --seeds 0 1

For every seed: `harp run RECIPE`, then `harp run RECIPE` with `--prune.method hydra` from that run's dense network, all
else equal. Writes docs/results/RECIPE.json and prints a Markdown table: accuracy in % as mean and standard deviation
over seeds, then each seed with its 95 % Wilson interval over test images. Finished runs are not run again.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from harp.config import find_recipe, make_recipe, read_recipe
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.runs import read_json
from harp.stages import run_stages

ROOT = Path(__file__).parents[1]


def run(recipe_name: str, seed: int, runs: Path, threads: int | None, source: Path | None = None) -> Path:
    """The folder of one finished run; with a dense `source`, the one of uniform rates."""
    values = read_recipe(find_recipe(recipe_name)) | {"seed": seed, "threads": threads}
    if source:
        values |= {"name": f"{values['name']}-uniform"}
        values["prune"] = values["prune"] | {"method": "hydra", "source": str(source)}
    work = Workspace(make_recipe(values), runs / f"{values['name']}-seed{seed}", Display(Console()))
    run_stages(work)
    return work.run.folder


def measure(folder: Path) -> dict[str, Any]:
    done = {stage: read_json(folder / stage / "done.json") for stage in ("2-prune", "3-finetune")}
    allocation = read_json(folder / "2-prune" / "allocation.json")
    return {
        "models": read_json(folder / "evaluation" / "results.json")["models"],
        "environment": read_json(folder / "environment.json"),
        "notes": [note for record in done.values() for note in record["notes"]],
        "seconds": {stage: record["seconds"] for stage, record in done.items()},
        "budget": allocation["budget"],
        "density_before_settling": allocation["density_before"],
        "kept": {site["name"]: [site["kept"], site["size"]] for site in allocation["sites"]},
    }


def table(results: dict[str, dict[str, Any]], keep: float) -> str:
    gone = f"{100 * (1 - keep):g} %"
    lines = [
        "| network | clean | PGD | C&W | worst of all | PGD, each seed (95 % interval over images) |",
        "|" + "---|" * 6,
    ]
    for label, method, model in (
        ("dense", "harp", "dense"),
        (f"{gone}, uniform, fine-tuned", "uniform", "finetuned"),
        (f"{gone}, HARP, before fine-tuning", "harp", "pruned"),
        (f"{gone}, HARP, fine-tuned", "harp", "finetuned"),
    ):
        rows = [result["models"][model] for result in results[method].values()]
        cells = [spread([row[measure]["accuracy"] for row in rows]) for measure in ("clean", "pgd", "cw", "worst")]
        each = ", ".join(
            f"{100 * r['pgd']['accuracy']:.1f} ({100 * r['pgd']['low']:.1f}-{100 * r['pgd']['high']:.1f})" for r in rows
        )
        lines.append(f"| {label} | {' | '.join(cells)} | {each} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    percent = [100 * value for value in values]
    return f"{statistics.mean(percent):.1f}" + (f" ± {statistics.stdev(percent):.1f}" if len(percent) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    results: dict[str, dict[str, Any]] = {"harp": {}, "uniform": {}}
    for seed in options.seeds:
        learned = run(options.recipe, seed, options.runs, options.threads)
        dense = learned / "1-pretrain" / "model.safetensors"
        uniform = run(options.recipe, seed, options.runs, options.threads, dense)
        results["harp"][str(seed)], results["uniform"][str(seed)] = measure(learned), measure(uniform)
    path = ROOT / "docs" / "results" / f"{options.recipe}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results, make_recipe(read_recipe(find_recipe(options.recipe))).prune.keep))


if __name__ == "__main__":
    main()
