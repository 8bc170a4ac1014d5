"""Every network of the run under every attack, in numbers that are recorded image by image."""

from typing import Any

import torch
from rich.table import Table
from torch import nn

from harp.attacks import Attack
from harp.config import AFTERWARDS
from harp.modes import evaluating
from harp.networks.assess import assess_run, attacks_of, draw
from harp.networks.tables import accuracy_table
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.randomness import Keyed
from harp.report.reading import read_models
from harp.runs import Tree, remove, save_tree
from harp.seals import write_sealed
from harp.sparsity import Weights, trace_macs
from harp.stages.files import final_masks, masks_in, model_files

EXAMPLES = 10  # as many as fit side by side on a page


def evaluate(work: Workspace) -> None:
    """evaluation/: every model under every attack; flags per example, accuracies with intervals, some examples."""
    folder = work.run.at(FOLDERS["evaluation"])
    attacks, _ = attacks_of(work.recipe.evaluation, work.threat.norm, work.recipe.seed)
    models = {name: work.loaded(path, small=name != "dense").eval() for name, path in model_files(work).items()}
    work.open()
    # What is asked anew of a finished evaluation makes its marker out of date.
    remove(folder / "done.json")
    results: dict[str, Any] = {}
    notes = [*work.sources.notes(), *work.split.notes]
    for name, model in models.items():
        others = [other for other in [models.get("dense")] if other is not None and other is not model]
        outcome = assess_run(work, model, folder / name, name, others)
        results[name] = {**_size(work, name, model), **outcome.values()["measures"]}
        notes += [f"{name}: {doubt.sentence} ({doubt.name})" for doubt in outcome.doubts]
        notes += [f"{name}: {note}" for note in outcome.evaluation.notes]
    if work.recipe.evaluation.curve:
        draw(folder, {name: (folder / name, row["worst"]) for name, row in results.items()}, work.threat)
    save_tree(folder / "examples.safetensors", _examples(work, models, attacks))
    threat = work.recipe.threat
    values = {
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "attacks": {name: repr(attack) for name, attack in attacks.items()},
        "models": results,
    }
    write_sealed(folder / "results.json", values, ["examples.safetensors"])
    record = {"notes": notes, "models": sorted(models), "asked": asked_afterwards(work)}
    record["environment"] = work.environment()
    work.run.finish(FOLDERS["evaluation"], record)


def asked_afterwards(work: Workspace) -> dict[str, Any]:
    """The settings that may change once every verdict is on record."""
    return work.recipe.evaluation.model_dump(mode="json", include=set(AFTERWARDS))


def table(work: Workspace) -> Table:
    """Dense, pruned and fine-tuned side by side, as recorded."""
    results = read_models(work.run.at(FOLDERS["evaluation"]) / "results.json")
    sizes = {
        "weights kept": [f"{r['kept']:,} of {r['total']:,}" for r in results.values()],
        "MACs per image": [f"{r['macs']:,} of {r['total_macs']:,}" for r in results.values()],
    }
    # Balanced accuracies are recorded, but three columns of them would double the table.
    cells = {
        name: {m: {**cell, "balanced": None} for m, cell in r.items() if isinstance(cell, dict)}
        for name, r in results.items()
    }
    return accuracy_table(cells, f"accuracy in %, with 95 % intervals; {work.threat}", sizes)


def _size(work: Workspace, name: str, model: nn.Module) -> dict[str, int]:
    """Prunable weights and multiply-accumulates per image: what is left, and what the dense network has."""
    whole = Weights(work.sites(work.model()), trace_macs(work.model(), work.example))
    kept = list(whole.sizes)
    macs = whole.cost("macs")
    if work.channels:
        left = Weights(work.sites(model), trace_macs(model, work.example))
        return _counted(sum(left.sizes), left.cost("macs")(left.sizes), whole)
    if name != "dense":
        path = final_masks(work) if name == "finetuned" else work.run.at(FOLDERS["prune"]) / "masks.safetensors"
        counts = masks_in(path, work.sites(model)).counts
        kept = [counts[name] for name in whole.names]
    return _counted(sum(kept), macs(kept), whole)


def _counted(kept: int, macs: float, whole: Weights) -> dict[str, int]:
    total = whole.cost("macs")(whole.sizes)
    return {"kept": kept, "total": sum(whole.sizes), "macs": round(macs), "total_macs": round(total)}


def _examples(work: Workspace, models: dict[str, nn.Module], attacks: dict[str, Attack]) -> Tree:
    """The first test images, their adversarial versions for each model, and what each model says to both."""
    x, y = next(iter(work.in_order(work.split.test, EXAMPLES).once()))
    measure = "pgd" if "pgd" in attacks else next(iter(attacks), None)
    tree: Tree = {"images": x, "labels": y, "adversarial": {}, "predictions": {}}
    for name, model in models.items():
        adv = x
        if measure is not None:
            noise = Keyed.of(torch.arange(len(x), device=x.device), work.recipe.seed, "examples")
            adv = attacks[measure](model, x.clone(), y.clone(), work.threat, noise)
        with torch.no_grad(), evaluating(model):
            both = torch.stack([model(x).argmax(1), model(adv).argmax(1)], 1)
        tree["adversarial"][name], tree["predictions"][name] = adv, both
    return tree
