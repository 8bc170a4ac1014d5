"""What the three training stages have in common: resume, train, select, write."""

import time
import warnings
from collections.abc import Callable

from torch import nn

from harp.clock import Step
from harp.config import TrainingSettings
from harp.data import Batches, subset
from harp.evaluation import correct
from harp.objectives import AWP, LEVEL, Objective
from harp.pipeline.outside import check_file
from harp.pipeline.workspace import FOLDERS, Workspace
from harp.pruners import Moment, Pruner, Scoring, SearchWarning
from harp.runs import save_tree
from harp.stages.unused import unused_by_objective
from harp.training import OPTIMIZERS, SCHEDULES, Stage, clear, fit, losses, steps_per_epoch
from harp.training.stage import Validate

# Not a setting: an image's attack noise is its own, so another size would change nothing but the speed.
VALIDATION_BATCH = 250


def train(
    work: Workspace,
    name: str,
    settings: TrainingSettings,
    model: nn.Module,
    pruner: Pruner,
    finish: Callable[[nn.Module, Pruner], tuple[nn.Module, list[str]]],
    until: int | None = None,
) -> None:
    """Trains, resuming where a checkpoint lies, selects, writes the stage's files, and its marker last."""
    began = time.monotonic()
    work.open()
    data = work.batches(name, settings.batch_size)
    objective = work.objective(settings, data)
    stage = _stage(work, name, settings, model, pruner, objective, steps_per_epoch(data, objective), until)
    start = stage.resume()
    if not start:
        pruner.prepare(Scoring(model, lambda: losses(model, objective, data, work.recipe.seed, name)))
    _fit(work, name, settings, stage, data, start)
    selected = stage.select()
    model, notes = finish(model, pruner)
    notes = [*notes, *work.sources.notes(), *unused_by_objective(name, settings), *objective.notes()]
    path = stage.folder / "model.safetensors"
    save_tree(path, dict(model.state_dict()))
    check_file(work, model, path, small=name != "pretrain")
    record = {
        "selected_step": selected,
        "steps": stage.last,
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
    until: int | None,
) -> Stage:
    optimiser = OPTIMIZERS[settings.optimizer](
        model, pruner, lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay
    )
    return Stage(
        work.run.at(FOLDERS[name]),
        model,
        pruner,
        optimiser,
        objective=objective,
        per_epoch=per_epoch,
        until=settings.epochs * per_epoch if until is None else until,
        every=Step.parse(settings.validate_every).steps(per_epoch),
        checkpoint=Step.parse(settings.checkpoint_every).steps(per_epoch),
        validate=_validator(work, name, pruner) if settings.selection == "best" else None,
    )


def _fit(work: Workspace, name: str, settings: TrainingSettings, stage: Stage, data: Batches, start: int) -> None:
    with work.display.bar(name, stage.until, start, stage.per_epoch) as move, warnings.catch_warnings():
        warnings.simplefilter("ignore", SearchWarning)  # the stage's notes say it, of the state that is selected

        def show(moment: Moment) -> None:
            assert moment.loss is not None
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


def _validator(work: Workspace, stage: str, pruner: Pruner) -> Validate:
    held = work.split.validation
    assert held is not None
    parts = {"": work.in_order(held, VALIDATION_BATCH)}
    if pruner.hears_training:
        train = work.split.train
        chosen = subset(train.labels, min(len(held), len(train)), work.recipe.seed)
        parts["train_"] = work.in_order(train.take(chosen), VALIDATION_BATCH)

    def validate(model: nn.Module) -> dict[str, float]:
        named, measures = (work.recipe.seed, "validation", stage), {}
        for part, images in parts.items():
            for what, attack in (("clean", None), ("robust", work.training_attack)):
                right = correct(model, images.once(), attack, work.threat, *named)
                measures[f"{part}{what}"] = float(right.float().mean())
        return measures

    return validate
