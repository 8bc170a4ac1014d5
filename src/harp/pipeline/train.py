"""The three training stages: pretrain, prune, finetune."""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

from torch import nn

from harp.clock import Step
from harp.config import PruneSettings, TrainingSettings
from harp.data import Batches
from harp.errors import HarpError
from harp.evaluation import correct
from harp.objectives import AWP, LEVEL, Objective
from harp.pipeline.outside import check_file
from harp.pipeline.settle import settle
from harp.pipeline.unused import METHOD_OPTIONS, unused_by_method, unused_by_objective
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.pruners import METHODS, Masked, Pruner, SearchWarning
from harp.registry import accepted
from harp.runs import load_tensors, save_tree
from harp.sparsity import Masks, Sites, allocation
from harp.training import SCHEDULES, Moment, Stage, clear, fit, sgd, steps_per_epoch
from harp.training.stage import Validate

# Not a setting: an image's attack noise is its own, so another size would change nothing but the speed.
VALIDATION_BATCH = 250


def pretrain(work: Workspace) -> None:
    """1-pretrain/model.safetensors: the dense network, adversarially trained."""
    settings = work.recipe.pretrain
    model = work.loaded(settings.source) if settings.source else work.model()
    _train(work, "pretrain", settings, model, Pruner(work.sites(model)), lambda model, pruner: (model, []))


def prune(work: Workspace) -> None:
    """2-prune: the pruned network, its masks, what was learned, and how the budget was shared out."""
    settings = work.recipe.prune
    model = work.loaded(dense_weights(work))
    units = work.units(model)
    data = work.batches("prune", settings.batch_size)
    per_epoch = steps_per_epoch(data, work.objective(settings, data))
    stage = {"steps_per_epoch": per_epoch, "steps": settings.epochs * per_epoch}
    factory = METHODS[settings.method]
    options = {name: getattr(settings, name) for name in METHOD_OPTIONS}
    pruner = factory(units, work.budget, **accepted(factory, {**options, **stage}))

    def finish(model: nn.Module, pruner: Pruner) -> tuple[nn.Module, list[str]]:
        return settle(work, model, units, pruner, list(unused_by_method(settings, pruner)))

    _train(work, "prune", settings, model, pruner, finish)


def finetune(work: Workspace) -> None:
    """3-finetune/model.safetensors: the weights that were left, trained on under their fixed masks."""
    settings = work.recipe.finetune
    model = work.loaded(settings.source or _previous(work, "prune"), small=True)
    sites = work.sites(model)
    # Channels are gone by now: what is left trains as any dense network does.
    pruner = Pruner(sites) if work.channels else Masked(sites, masks_in(final_masks(work), sites))
    _train(work, "finetune", settings, model, pruner, lambda model, pruner: (model, []))


def masks_in(path: Path, sites: Sites) -> Masks:
    """The masks in the file for these sites; raises `HarpError` where they are others'."""
    masks = load_tensors(path)
    missing = [site.name for site in sites if site.name not in masks]
    if missing:
        raise HarpError(f"{path} has no mask for {missing[0]}: it belongs to another model")
    strange = sorted(set(masks) - {site.name for site in sites})
    if strange:
        raise HarpError(f"{path} has a mask for {strange[0]}, which model.include and model.exclude do not select")
    return Masks({site.name: masks[site.name] for site in sites})


def check_budget(work: Workspace) -> None:
    """Raises `HarpError` for a budget or a start that the network cannot meet: now, not after hours of pretraining."""
    units = work.units(work.model())
    allocation(work.recipe.prune.start, units)
    work.budget.floors(units.sizes, units.cost(work.budget.of))


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
    finish: Callable[[nn.Module, Pruner], tuple[nn.Module, list[str]]],
) -> None:
    """Trains, resuming where a checkpoint lies, selects, writes the stage's files, and its marker last."""
    began = time.monotonic()
    work.open()
    data = work.batches(name, settings.batch_size)
    objective = work.objective(settings, data)
    stage = _stage(work, name, settings, model, pruner, objective, steps_per_epoch(data, objective))
    start = stage.resume()
    _fit(work, name, settings, stage, data, start)
    selected = stage.select()
    model, notes = finish(model, pruner)
    notes = [*notes, *work.sources.notes(), *unused_by_objective(name, settings), *objective.notes()]
    path = stage.folder / "model.safetensors"
    save_tree(path, dict(model.state_dict()))
    check_file(work, model, path, small=name != "pretrain")
    record = {
        "selected_step": selected,
        "steps": stage.until,
        "resumed_at": start,
        "seconds": round(time.monotonic() - began, 1),
        "notes": notes,
        "environment": work.environment(),
    }
    work.run.finish(FOLDERS[name], record)
    clear(stage.folder)
    for note in notes:
        work.display.say(f"note: {note}")


def _stage(
    work: Workspace,
    name: str,
    settings: TrainingSettings,
    model: nn.Module,
    pruner: Pruner,
    objective: Objective,
    per_epoch: int,
) -> Stage:
    optimiser = sgd(
        model,
        pruner,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        rate_weight_decay=settings.rate_weight_decay if isinstance(settings, PruneSettings) else None,
    )
    return Stage(
        work.run.at(FOLDERS[name]),
        model,
        pruner,
        optimiser,
        objective=objective,
        per_epoch=per_epoch,
        until=settings.epochs * per_epoch,
        every=Step.parse(settings.validate_every).steps(per_epoch),
        checkpoint=Step.parse(settings.checkpoint_every).steps(per_epoch),
        validate=_validator(work, name) if settings.selection == "best" else None,
    )


def _fit(work: Workspace, name: str, settings: TrainingSettings, stage: Stage, data: Batches, start: int) -> None:
    with work.display.bar(name, stage.until, start) as move, warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the stage's notes say it, of the state that is selected

        def show(moment: Moment) -> None:
            best = f"  best robust {100 * stage.best['rank'][0]:.1f} %" if stage.best else ""
            move(1, f"loss {float(moment.loss):.3f}{best}")

        fit(
            stage.model,
            data,
            objective=stage.objective,
            ascent=AWP(settings.awp, settings.awp_warmup * stage.per_epoch) if settings.awp else LEVEL,
            optimiser=stage.optimiser,
            pruner=stage.pruner,
            until=stage.until,
            start=start,
            schedule=SCHEDULES[settings.schedule],
            precision=work.precision,
            seed=work.recipe.seed,
            stage=name,
            on=[stage, show],
        )


def _validator(work: Workspace, stage: str) -> Validate:
    held = work.split.validation
    assert held is not None
    images = work.in_order(held, VALIDATION_BATCH)

    def validate(model: nn.Module) -> dict[str, float]:
        named = (work.recipe.seed, "validation", stage)
        clean = correct(model, images.once(), None, work.threat, *named)
        robust = correct(model, images.once(), work.training_attack, work.threat, *named)
        return {"clean": float(clean.float().mean()), "robust": float(robust.float().mean())}

    return validate
