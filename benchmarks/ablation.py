"""What the parts of HARP are worth: ways to share out a budget, from the same dense networks, in equal epochs.

    .venv/bin/python benchmarks/ablation.py --seeds 0 1 2 --keeps 0.01 --threads 1
    .venv/bin/python benchmarks/ablation.py --seeds 0 --keeps 0.1 0.05 0.001 --threads 1

For every seed `harp pretrain cifar10-small`; then, for every row of `ROWS` and every keep, the prune and fine-tune
stages of the recipe `cifar10-ablation`. The fine-tuned networks are attacked by PGD-20 on the recipe's test images.
Adds to docs/results/cifar10-ablation.json and prints a Markdown table of all that is in it: mean and standard
deviation over seeds in %, and the paired difference from the paper's HARP with its 95 % bootstrap interval over images.
What is already measured is not measured again. `--only` takes some rows.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy
from rich.console import Console

from harp.attacks import PGD
from harp.config import find_recipe, make_recipe, read_recipe
from harp.evaluation import evaluate, summary
from harp.pipeline import Workspace
from harp.pipeline.display import Display
from harp.runs import load_tree, read_json, save_tree, write_atomic
from harp.stages import run_stages
from harp.stages.files import model_files

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs"
RESULTS = ROOT / "docs" / "results" / "cifar10-ablation.json"
PAPER = "HARP (sum, penalty)"

ROWS: dict[str, dict[str, str]] = {
    "uniform": {"method": "scores-only", "start": "uniform"},
    "ERK": {"method": "scores-only", "start": "erk"},
    "LAMP": {"method": "scores-only", "start": "lamp"},
    "ideal gas": {"method": "scores-only", "start": "ideal-gas"},
    "null model (zero, penalty)": {"method": "harp", "estimator": "zero"},
    PAPER: {"method": "harp", "estimator": "sum"},
    "HARP (marginal, penalty)": {"method": "harp", "estimator": "marginal"},
    "HARP (sum, exact)": {"method": "harp", "estimator": "sum", "mode": "exact"},
    "HARP (marginal, exact)": {"method": "harp", "estimator": "marginal", "mode": "exact"},
    "uniform (zero, exact)": {"method": "harp", "estimator": "zero", "mode": "exact"},
    "HARP (marginal, exact, from ERK)": {"method": "harp", "estimator": "marginal", "mode": "exact", "start": "erk"},
    "ERK (zero, exact)": {"method": "harp", "estimator": "zero", "mode": "exact", "start": "erk"},
    "rates only (sum, penalty)": {"method": "rates-only", "estimator": "sum"},
}


def dense(seed: int, threads: int) -> Path:
    """The weights of the seed's dense network, trained where they are not there yet."""
    recipe = make_recipe(read_recipe(find_recipe("cifar10-small")) | {"seed": seed, "threads": threads})
    work = Workspace(recipe, RUNS / f"cifar10-small-seed{seed}", Display(Console()))
    run_stages(work, ["pretrain"])
    return model_files(work)["dense"]


def folder(row: str, keep: float, seed: int) -> Path:
    words = "".join(letter if letter.isalnum() else "-" for letter in row)
    return RUNS / "ablation" / f"{words}-{keep:g}-seed{seed}"


def measure(row: str, keep: float, seed: int, threads: int) -> dict[str, Any]:
    values = read_recipe(find_recipe("cifar10-ablation")) | {"seed": seed, "threads": threads}
    values["prune"] |= ROWS[row] | {"keep": keep, "source": str(dense(seed, threads))}
    recipe = make_recipe(values)
    work = Workspace(recipe, folder(row, keep, seed), Display(Console()))
    run_stages(work, ["prune"])
    run_stages(work, ["finetune"])
    flags = attacked(work, "finetuned")
    done = {stage: read_json(work.run.folder / stage / "done.json") for stage in ("2-prune", "3-finetune")}
    allocation = read_json(work.run.folder / "2-prune" / "allocation.json")
    return {
        "row": row,
        "keep": keep,
        "seed": seed,
        "accuracy": summary(flags),
        "notes": [note for record in done.values() for note in record["notes"]],
        "seconds": {stage: record["seconds"] for stage, record in done.items()},
        "kept": {site["name"]: [site["kept"], site["size"]] for site in allocation["sites"]},
        "density_before_settling": allocation["density_before"],
        "environment": work.environment(),
    }


def attacked(work: Workspace, name: str) -> dict[str, Any]:
    """The flags of one network under no attack and PGD-20, kept beside the run."""
    path = work.run.folder / f"{name}.flags.safetensors"
    if not path.exists():
        model = work.loaded(model_files(work)[name])
        settings = work.recipe.evaluation
        images = list(work.in_order(work.split.test, settings.batch_size).once())
        attack = {"pgd": PGD(settings.steps, settings.step, settings.restarts)}
        save_tree(path, dict(evaluate(model, images, attack, work.threat, seed=work.recipe.seed).flags))
    return load_tree(path)


def difference(row: str, keep: float, seeds: list[int], draws: int = 2000) -> str:
    """Robust accuracy minus the paper's HARP, in points, with a bootstrap interval over images, seeds as they are."""
    words = ["".join(letter if letter.isalnum() else "-" for letter in name) for name in (row, PAPER)]
    paths = [
        [RUNS / "ablation" / f"{w}-{keep:g}-seed{s}" / "finetuned.flags.safetensors" for s in seeds] for w in words
    ]
    if row == PAPER or not all(path.exists() for pair in paths for path in pair):
        return ""
    ours, paper = ([load_tree(path)["pgd"].double().numpy() for path in side] for side in paths)
    gaps = 100 * (numpy.mean(ours, axis=0) - numpy.mean(paper, axis=0))
    noise = numpy.random.default_rng(0)
    means = gaps[noise.integers(0, len(gaps), (draws, len(gaps)))].mean(1)
    low, high = numpy.quantile(means, [0.025, 0.975])
    return f"{gaps.mean():+.1f} ({low:+.1f} to {high:+.1f})"


def one_a_line(results: list[dict[str, Any]]) -> bytes:
    return ("[\n" + ",\n".join(json.dumps(result) for result in results) + "\n]\n").encode()


def table(results: list[dict[str, Any]], keep: float) -> str:
    lines = ["| sharing out | clean | PGD-20 | PGD-20, each seed | against HARP as published |", "|---" * 5 + "|"]
    for row in ROWS:
        found = sorted((r for r in results if r["row"] == row and r["keep"] == keep), key=lambda r: r["seed"])
        if found:
            clean, robust = ([100 * r["accuracy"][m]["accuracy"] for r in found] for m in ("clean", "pgd"))
            each = ", ".join(f"{value:.1f}" for value in robust)
            gap = difference(row, keep, [r["seed"] for r in found])
            lines.append(f"| {row} | {spread(clean)} | {spread(robust)} | {each} | {gap} |")
    return "\n".join(lines)


def spread(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--keeps", type=float, nargs="+", default=[0.01])
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="ROW")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    results: list[dict[str, Any]] = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    known = {(r["row"], r["keep"], r["seed"]) for r in results}
    for keep in options.keeps:
        for seed in options.seeds:
            for row in options.only:
                if (row, keep, seed) not in known:
                    results.append(measure(row, keep, seed, options.threads))
                    write_atomic(RESULTS, one_a_line(results))
    for keep in sorted({r["keep"] for r in results}, reverse=True):
        print(f"\nkeep {keep:g}\n\n{table(results, keep)}")


if __name__ == "__main__":
    main()
