"""The three training stages: pretrain, prune, finetune."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from harp.clock import Step
from harp.config import PruneSettings, TrainingSettings
from harp.errors import HarpError
from harp.evaluation import correct
from harp.evaluation.evaluate import evaluation_noise
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.pruners import METHODS, Masked, Pruner
from harp.registry import accepted
from harp.runs import load_tree, save_tree, write_json
from harp.sparsity import Budget, Masks, uniform
from harp.training import SCHEDULES, Moment, Stage, fit, sgd
from harp.training.stage import Validate

# Not a setting: attack noise is drawn per batch, so another size would select other epochs.
VALIDATION_BATCH = 250


def pretrain(work: Workspace) -> None:
    """1-pretrain/model.safetensors: the dense network, adversarially trained."""
    settings = work.recipe.pretrain
    model = work.loaded(settings.source) if settings.source else work.model()
    _train(work, "pretrain", settings, model, Pruner(work.sites(model)), lambda model, pruner: [])


def prune(work: Workspace) -> None:
    """2-prune: the pruned network, its masks, what was learned, and how the budget was shared out."""
    settings = work.recipe.prune
    model = work.loaded(dense_weights(work))
    sites = work.sites(model)
    budget = Budget(settings.keep, settings.floor)
    factory = METHODS[settings.method]
    options: dict[str, Any] = {"gamma": settings.gamma, "start_keep": settings.start_keep}
    used = accepted(factory, options)
    per_epoch = work.batches("prune", settings.batch_size).steps_per_epoch
    pruner = factory(sites, budget, **used, **accepted(factory, {"steps_per_epoch": per_epoch}))
    unused = [name for name in options if name not in used and name in settings.model_fields_set]
    if settings.rate_weight_decay is not None and "rates" not in pruner.trainables():
        unused.append("rate_weight_decay")

    def finish(model: nn.Module, pruner: Pruner) -> list[str]:
        notes = [f"{settings.method} has no {name}: prune.{name} was not used" for name in unused]
        return notes + _record_allocation(work, settings, budget, pruner)

    _train(work, "prune", settings, model, pruner, finish)


def finetune(work: Workspace) -> None:
    """3-finetune/model.safetensors: the weights that were left, trained on under their fixed masks."""
    settings = work.recipe.finetune
    model = work.loaded(settings.source or _previous(work, "prune"))
    sites = work.sites(model)
    path = final_masks(work)
    masks = load_tree(path)
    missing = [site.name for site in sites if site.name not in masks]
    if missing:
        raise HarpError(f"{path} has no mask for {missing[0]}: it belongs to another model")
    strange = sorted(set(masks) - {site.name for site in sites})
    if strange:
        raise HarpError(f"{path} has a mask for {strange[0]}, which model.include and model.exclude do not select")
    pruner = Masked(sites, Masks({site.name: masks[site.name] for site in sites}))
    _train(work, "finetune", settings, model, pruner, lambda model, pruner: [])


def check_budget(work: Workspace) -> None:
    """Raises `HarpError` for a budget the network cannot meet: now, and not after an hour of pretraining."""
    settings = work.recipe.prune
    Budget(settings.keep, settings.floor).floors([site.size for site in work.sites(work.model())])


def dense_weights(work: Workspace) -> Path:
    """The file with the dense network's weights; raises `HarpError` where there is none yet."""
    return work.recipe.prune.source or _previous(work, "pretrain")


def final_masks(work: Workspace) -> Path:
    """The file with the masks that fine-tuning keeps."""
    settings = work.recipe.finetune
    if settings.masks is not None:
        return settings.masks
    if settings.source is not None:
        return settings.source.with_name("masks.safetensors")
    return _previous(work, "prune").with_name("masks.safetensors")


def _previous(work: Workspace, stage: str) -> Path:
    if work.run.done(FOLDERS[stage]) is None:
        raise HarpError(
            f"{work.run.folder} has no finished {stage} stage; run `harp {stage}` there first, or name a safetensors "
            "file with --source"
        )
    return work.run.at(FOLDERS[stage]) / "model.safetensors"


def _train(
    work: Workspace,
    name: str,
    settings: TrainingSettings,
    model: nn.Module,
    pruner: Pruner,
    finish: Callable[[nn.Module, Pruner], list[str]],
) -> None:
    """Trains, resuming where a checkpoint lies, selects, writes the stage's files, and its marker last."""
    began = time.monotonic()
    work.open()
    data = work.batches(name, settings.batch_size)
    until = settings.epochs * data.steps_per_epoch
    optimiser = sgd(
        model,
        pruner,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        rate_weight_decay=settings.rate_weight_decay if isinstance(settings, PruneSettings) else None,
    )
    stage = Stage(
        work.run.at(FOLDERS[name]),
        model,
        pruner,
        optimiser,
        per_epoch=data.steps_per_epoch,
        until=until,
        every=Step.parse(settings.validate_every).steps(data.steps_per_epoch),
        checkpoint=Step.parse(settings.checkpoint_every).steps(data.steps_per_epoch),
        validate=_validator(work, name) if settings.selection == "best" else None,
    )
    start = stage.resume()
    with work.display.bar(name, until, start) as move:

        def show(moment: Moment) -> None:
            best = f"  best robust {100 * stage.best['rank'][0]:.1f} %" if stage.best else ""
            move(1, f"loss {float(moment.loss):.3f}{best}")

        fit(
            model,
            data,
            objective=work.objective(settings),
            optimiser=optimiser,
            pruner=pruner,
            until=until,
            start=start,
            schedule=SCHEDULES[settings.schedule],
            seed=work.recipe.seed,
            stage=name,
            on=[stage, show],
        )
    selected = stage.select()
    notes = finish(model, pruner)
    save_tree(stage.folder / "model.safetensors", dict(model.state_dict()))
    record = {
        "selected_step": selected,
        "steps": until,
        "resumed_at": start,
        "seconds": round(time.monotonic() - began, 1),
        "notes": notes,
        "environment": work.environment(),
    }
    work.run.finish(FOLDERS[name], record)
    stage.clear()
    for note in notes:
        work.display.say(f"note: {note}")


def _validator(work: Workspace, stage: str) -> Validate:
    held = work.split.validation
    assert held is not None
    images = work.in_order(held, VALIDATION_BATCH)

    def validate(model: nn.Module) -> dict[str, float]:
        noise = evaluation_noise(work.recipe.seed, f"{stage} validation")
        clean = correct(model, images.once(), None, work.threat, noise)
        robust = correct(model, images.once(), work.training_attack, work.threat, noise)
        return {"clean": float(clean.float().mean()), "robust": float(robust.float().mean())}

    return validate


def _record_allocation(work: Workspace, settings: PruneSettings, budget: Budget, pruner: Pruner) -> list[str]:
    """Settles; writes the masks, what was learned and the integer counts; gives the doubts worth printing."""
    folder, masks = work.run.at(FOLDERS["prune"]), pruner.settle()
    record = pruner.record(0.0)
    rates = record.get("rates", {})
    even, kept = uniform(pruner.sites, budget), masks.counts
    before = record.get("density", masks.density)
    save_tree(folder / "masks.safetensors", dict(masks))
    save_tree(folder / "learned.safetensors", pruner.state_dict())
    write_json(
        folder / "allocation.json",
        {
            "method": settings.method,
            "keep": settings.keep,
            "budget": budget.count(masks.total),
            "total": masks.total,
            "density_before": before,
            "sites": [
                {
                    "name": site.name,
                    "size": site.size,
                    "kept": kept[site.name],
                    "uniform": even[site.name],
                    "rate": rates.get(site.name),
                }
                for site in pruner.sites
            ],
        },
    )
    if before <= 1.05 * settings.keep:
        return []
    excess = before / settings.keep
    return [f"the learned rates ended at {excess:.2f} times the budget; settle cut the masks to it exactly"]
