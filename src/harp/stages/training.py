"""What the three training stages have in common: resume, train, select, write."""

import time
import warnings
from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torch.optim import Optimizer

from harp.boards import About, fed
from harp.clock import Step
from harp.config import Planned, TrainingSettings
from harp.data import Batches, subset
from harp.evaluation import correct
from harp.objectives import AWP, LEVEL, OBJECTIVES, Objective, is_attacked
from harp.pipeline.begun import BEGUN, begin_stage, moved
from harp.pipeline.outside import check_file
from harp.pipeline.workspace import Workspace
from harp.pruners import Moment, Pruner, Scoring, SearchWarning
from harp.runs import remove, save_tree
from harp.stages.files import files_from_elsewhere
from harp.stages.unused import unused_by_objective
from harp.training import (
    OPTIMIZERS,
    SCHEDULES,
    Average,
    Tracker,
    attacked,
    clear,
    fit,
    losses,
    renew,
    renewed,
    steps_per_epoch,
)
from harp.training.tracker import Validate

# Not a setting: an image's attack noise is its own, so another size would change nothing but the speed.
VALIDATION_BATCH = 250


def train(
    work: Workspace,
    stage: Planned,
    settings: TrainingSettings,
    model: nn.Module,
    pruner: Pruner,
    finish: Callable[[nn.Module, Pruner], tuple[nn.Module, list[str]]],
    until: int | None = None,
) -> None:
    """Trains, resuming where a checkpoint lies, selects, writes the stage's files, and its marker last."""
    began = time.monotonic()
    work.open()
    data = work.batches(stage.name, settings.batch_size)
    tracker = _tracker(work, stage, settings, model, pruner, data, until)
    objective, folder = tracker.objective, tracker.folder
    start = tracker.resume()
    begun = begin_stage(work, stage.folder, files_from_elsewhere(work, stage), resumed=start > 0)
    if not start:
        # All ranks look at all images, so that what they make of them is equal in every bit.
        whole = work.batches(stage.name, settings.batch_size, whole=True)
        pruner.prepare(_scoring(work, stage.name, settings, model, objective, whole))
    about = About(folder, work.run.folder.absolute().name, stage.folder, settings.model_dump(mode="json"))
    with fed(work.recipe.boards if work.ranks.first else (), about, tracker.metrics, work.display.say):
        _fit(work, stage.name, settings, tracker, data, start)
    selected = tracker.select()
    model, notes = finish(model, pruner)
    renew(model, _for_norms(work, stage.name, settings, model))
    notes = [*notes, *work.sources.notes(), *unused_by_objective(stage.name, settings), *objective.notes()]
    notes += work.ranks.told(lambda: moved(work.run, begun))
    path = folder / "model.safetensors"
    save_tree(path, dict(model.state_dict()))
    work.ranks.told(lambda: check_file(work, model, path, small=stage.kind != "pretrain"))
    record = {
        "selected_step": selected,
        **({"averaged": tracker.averaged} if settings.average else {}),
        "steps": tracker.last,
        "resumed_at": start,
        "seconds": round(time.monotonic() - began, 1),
        "notes": notes,
        "environment": work.environment(),
        **begun.told(),
    }
    work.run.finish(stage.folder, record)
    clear(folder)
    remove(folder / BEGUN)
    for note in notes:
        work.display.say(f"note: {note}")


def _tracker(
    work: Workspace,
    stage: Planned,
    settings: TrainingSettings,
    model: nn.Module,
    pruner: Pruner,
    data: Batches,
    until: int | None,
) -> Tracker:
    objective, optimizer = work.objective(settings, data), optimizer_of(settings, model, pruner)
    per_epoch = steps_per_epoch(data, objective)
    return Tracker(
        work.run.at(stage.folder),
        model,
        pruner,
        optimizer,
        objective=objective,
        per_epoch=per_epoch,
        until=settings.epochs * per_epoch if until is None else until,
        every=Step.parse(settings.validate_every).steps(per_epoch),
        checkpoint=Step.parse(settings.checkpoint_every).steps(per_epoch),
        validate=_validator(work, stage.name, settings, pruner) if settings.selection == "best" else None,
        average=Average(model, pruner, optimizer, settings.average) if settings.average else None,
        ranks=work.ranks,
    )


def _scoring(
    work: Workspace, name: str, settings: TrainingSettings, model: nn.Module, objective: Objective, data: Batches
) -> Scoring:
    seed, attack = work.recipe.seed, work.attack(settings)
    return Scoring(
        model,
        lambda: losses(model, objective, data, seed, name),
        lambda: attacked(model, attack, work.threat, data, seed, name),
    )


def optimizer_of(settings: TrainingSettings, model: nn.Module, pruner: Pruner) -> Optimizer:
    """Who makes the steps of a stage."""
    make = OPTIMIZERS[settings.optimizer]
    return make(
        model,
        pruner,
        lr=settings.lr,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        lrs=settings.lrs,
    )


def _fit(work: Workspace, name: str, settings: TrainingSettings, tracker: Tracker, data: Batches, start: int) -> None:
    with work.display.bar(name, tracker.until, start, tracker.per_epoch) as move, warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the stage's notes say it, of the state that is selected

        def show(moment: Moment) -> None:
            assert moment.loss is not None
            best = f"  best robust {100 * tracker.best['rank'][0]:.1f} %" if tracker.best else ""
            move(1, f"loss {float(moment.loss):.3f}{best}")

        fit(
            tracker.model,
            data,
            objective=tracker.objective,
            ascent=AWP(settings.awp, settings.awp_warmup * tracker.per_epoch) if settings.awp else LEVEL,
            optimizer=tracker.optimizer,
            pruner=tracker.pruner,
            until=tracker.until,
            start=start,
            schedule=SCHEDULES[settings.schedule],
            precision=work.precision,
            seed=work.recipe.seed,
            stage=name,
            ranks=work.ranks,
            clip=settings.clip,
            whole_norms=work.recipe.ranks.batch_norm == "synchronised",
            on=[tracker, show],
        )


def _for_norms(work: Workspace, name: str, settings: TrainingSettings, model: nn.Module) -> Iterator[Tensor]:
    """The images from which batch norms' statistics are taken anew: the stage's first, as its loss sees them."""
    if not settings.renew_norms:
        return
    # The whole batches on every rank, so that statistics are equal on all.
    data = work.batches(name, settings.batch_size, whole=True)
    count, attacks = settings.renew_norms, is_attacked(OBJECTIVES[settings.objective])
    if not attacks or settings.batch_norm == "mixed":
        yield from (x for _, (x, _) in zip(range(min(count, data.steps_per_epoch)), data.after(0), strict=False))
    if attacks:
        attack = work.attack(settings)
        yield from (x for x, _ in attacked(model, attack, work.threat, data, work.recipe.seed, name, count))


def _validator(work: Workspace, stage: str, settings: TrainingSettings, pruner: Pruner) -> Validate | None:
    held = work.split.validation
    if held is None:
        return None
    parts = {"": work.in_order(held, VALIDATION_BATCH)}
    if pruner.hears_training:
        train = work.split.train
        chosen = subset(train.labels, min(len(held), len(train)), work.recipe.seed)
        parts["train_"] = work.in_order(train.take(chosen), VALIDATION_BATCH)

    def validate(model: nn.Module) -> dict[str, float]:
        named, measures = (work.recipe.seed, "validation", stage), {}
        with renewed(model, _for_norms(work, stage, settings, model)):
            for part, images in parts.items():
                for what, attack in (("clean", None), ("robust", work.training_attack)):
                    right = correct(model, images.once(), attack, work.threat, *named, ranks=work.ranks)
                    measures[f"{part}{what}"] = float(right.float().mean())
        return measures

    return validate
