"""Every network of the run under every attack, in numbers that are recorded image by image."""

from collections.abc import Mapping
from typing import Any

import torch
from rich.table import Table
from torch import nn

from harp.attacks import Attack
from harp.config import AFTERWARDS, EVALUATION
from harp.evaluation.tables import accuracy_table
from harp.modes import evaluating
from harp.networks.assess import assess_run, draw
from harp.networks.attacking import attacks_of
from harp.pipeline.begun import begin_stage, moved
from harp.pipeline.workspace import Workspace
from harp.randomness import Keyed
from harp.report.reading import read_models
from harp.runs import Tree, remove, save_tree
from harp.seals import write_sealed
from harp.sparsity import Weights, trace_macs
from harp.stages.files import finished, masks_in, masks_of, measured_files, model_files
from harp.written import Results, Sizes

EXAMPLES = 10  # as many as fit side by side on a page


def evaluate(work: Workspace) -> None:
    """evaluation/: each model asked for under every attack; flags per example, accuracies with intervals, examples."""
    folder = work.run.at(EVALUATION)
    attacks = attacks_of(work.recipe.evaluation, work.threat.norm, work.recipe.seed)
    files, asked = model_files(work), measured_files(work)
    models = {
        name: work.loaded(path, small=name != "dense").eval()
        for name, path in files.items()
        if name in asked or name == "dense"
    }
    dense = models.get("dense")
    models = {name: models[name] for name in asked}
    work.open()
    # What is asked anew of a finished evaluation makes its marker out of date.
    remove(folder / "done.json")
    begun = begin_stage(work, EVALUATION, resumed=True)
    results: dict[str, dict[str, Any]] = {}
    notes = [*work.sources.notes(), *work.split.notes, *moved(work.run, begun)]
    whole = _priced(work, work.model())
    for name, model in models.items():
        others = [dense] if dense is not None and dense is not model else []
        outcome = assess_run(work, model, folder / name, name, others)
        results[name] = {**_sizes(work, name, model, whole).model_dump(), **outcome.values()["measures"]}
        notes += [f"{name}: {doubt.sentence} ({doubt.name})" for doubt in outcome.doubts]
        notes += [f"{name}: {note}" for note in outcome.evaluation.notes]
    work.ranks.wait()
    if not work.ranks.first:
        return
    if work.recipe.evaluation.curve:
        draw(folder, {name: (folder / name, row["worst"]) for name, row in results.items()}, work.threat)
    save_tree(folder / "examples.safetensors", _examples(work, models, attacks))
    threat = work.recipe.threat
    values = {
        "threat": {"norm": threat.norm, "eps": threat.eps},
        "attacks": {name: repr(attack) for name, attack in attacks.items()},
        "models": results,
    }
    Results.model_validate(values)
    write_sealed(folder / "results.json", values, ["examples.safetensors"])
    record = {"notes": notes, "models": sorted(models), "asked": asked_afterwards(work)}
    work.run.finish(EVALUATION, {**record, "environment": work.environment(), **begun.told()})


def asked_afterwards(work: Workspace) -> dict[str, Any]:
    """The settings that may change once every verdict is on record."""
    asked = work.recipe.evaluation.model_dump(mode="json", include=set(AFTERWARDS))
    # Runs that ended before there was a choice have no entry for it.
    newer = {"corruptions": not asked["corruptions"], "curve_by": asked["curve_by"] == "fab"}
    return {name: value for name, value in asked.items() if not newer.get(name)}


def table(work: Workspace) -> Table:
    """Dense, pruned and fine-tuned side by side, as recorded."""
    results = read_models(work.run.at(EVALUATION) / "results.json")
    sizes = {
        "weights kept": [f"{r['kept']:,} of {r['total']:,}" for r in results.values()],
        "MACs per image": [f"{r['macs']:,} of {r['total_macs']:,}" for r in results.values()],
    }
    cells = {name: {m: cell for m, cell in r.items() if isinstance(cell, dict)} for name, r in results.items()}
    return accuracy_table(cells, f"accuracy in %, with 95 % intervals; {work.threat}", sizes)


def _priced(work: Workspace, model: nn.Module) -> Weights:
    return Weights(work.sites(model), trace_macs(model, work.example))


def _sizes(work: Workspace, name: str, model: nn.Module, whole: Weights) -> Sizes:
    """Prunable weights and multiply-accumulates per image: what is left, and what the `whole` network has."""
    priced = _priced(work, model) if work.channels else whole
    kept = list(priced.sizes)
    stage = next((one for one in finished(work) if one.network == name and one.kind != "pretrain"), None)
    if stage is not None and (masks := masks_of(work, stage)):
        counts = masks_in(masks, work.sites(model)).counts
        kept = [counts[site] for site in priced.names]
    return Sizes(
        kept=sum(kept),
        total=sum(whole.sizes),
        macs=round(priced.cost("macs")(kept)),
        total_macs=round(whole.cost("macs")(whole.sizes)),
    )


def _examples(work: Workspace, models: dict[str, nn.Module], attacks: Mapping[str, Attack]) -> Tree:
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
