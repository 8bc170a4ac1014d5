"""The probe itself, in a process of its own: what it learns is one JSON value, and the folder is not written to."""

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from harp.ambient import pinned, precise
from harp.config import EVALUATION, Planned, make_recipe
from harp.errors import HarpError
from harp.networks.assess import check
from harp.networks.attacking import attacks_of
from harp.pipeline.display import Display
from harp.pipeline.limits import check_sizes
from harp.pipeline.outside import check_network
from harp.pipeline.workspace import Workspace
from harp.probing.queries import queries
from harp.probing.rehearsal import Rehearsal, now
from harp.stages.prune import check_budget
from harp.stages.runner import needed

WARM, BLOCK = 2, 3  # steps of a block; its first one's time is not taken
ROUNDS = 5
SECONDS = 30.0  # beyond the warm-up, for all stages together, where a single round leaves any choice


@pinned()
def probed(task: Mapping[str, Any]) -> dict[str, Any]:
    """What `task` asks for: times of everything, or the memory that one stage, or the evaluation, takes."""
    folder = Path(task["folder"]) if task["folder"] else None
    work = Workspace(make_recipe(task["recipe"]), folder, Display(), task["edited"])
    stages = [stage for stage in needed(work) if work.run.done(stage.folder) is None]
    if task["memory"] is None:
        return _times(work, stages)
    if task["memory"] == "evaluate":
        _asked(work, [work.model()])
    else:
        stage = Rehearsal(work, next(one for one in stages if one.name == task["memory"]))
        if stage.until:
            stage.steps(WARM)
        stage.validate()
    return {"peak": _peak(work.device)}


def _times(work: Workspace, stages: Sequence[Planned]) -> dict[str, Any]:
    """Checks what a run would check before it begins, and then times every stage in turn."""
    check(work.recipe.evaluation, work.threat.norm)
    work.check_recipe()
    check_sizes(work.recipe, work.split, stages)
    if stages:
        check_network(work)
    for stage in stages:
        if stage.kind == "prune":
            check_budget(work, stage)
    found = {stage: Rehearsal(work, stage) for stage in stages}
    return {
        "done": [stage.name for stage in work.stages if work.run.done(stage.folder) is not None],
        "stages": {
            stage.name: _described(one, times)
            for (stage, one), times in zip(found.items(), _timed(list(found.values())), strict=True)
        },
        "evaluation": None if not stages and work.run.done(EVALUATION) is not None else _evaluation(work),
    }


def _timed(stages: Sequence[Rehearsal]) -> list[list[float]]:
    """Seconds a step of each stage, a few of them, taken in turns; none of a stage without steps."""
    taken: list[list[float]] = [stage.steps(WARM) if stage.until else [] for stage in stages]
    once = (BLOCK - 1) * sum(map(sum, taken))
    for turn in range(min(ROUNDS, max(1, int(SECONDS / max(once, 1e-9))))):
        for stage, times in zip(stages, taken, strict=True):
            if stage.until and (new := stage.steps(BLOCK)):
                times[:] = [*times, *new] if turn else new  # the warm-up's are no measurement
    return taken


def _described(stage: Rehearsal, times: Sequence[float]) -> dict[str, Any]:
    looks = stage.validations
    return {
        "steps": stage.until,
        "step": median(times) if times else 0.0,
        "validations": looks,
        "validation": stage.validate() if looks else 0.0,
        "bytes": stage.bytes,
    }


def _evaluation(work: Workspace) -> dict[str, Any]:
    settings, dataset = work.recipe.evaluation, work.split.dataset
    # Counted on our own attacks: those of AutoAttack's authors ask as often.
    ours = settings.model_copy(update={"engine": "harp"}) if settings.engine != "harp" else settings
    attacks = attacks_of(ours, work.threat.norm, work.recipe.seed)
    shape = tuple(work.split.test.images.shape[1:])
    least, most = queries(attacks, shape, len(dataset.classes), work.threat)
    every = len(needed(work)) + (work.recipe.prune.source is not None)  # the dense one that was trained elsewhere
    forward, gradient = _asked(work, [work.model() for _ in range(3)])
    return {
        "networks": every if settings.networks == "all" else 1,
        "images": min(settings.images or len(work.split.test), len(work.split.test)),
        "least": [settings.eot * least.forward, settings.eot * least.gradient],
        "most": [settings.eot * most.forward, settings.eot * most.gradient],
        "forward": forward,
        "gradient": gradient,
    }


@precise()
def _asked(work: Workspace, models: Sequence[nn.Module]) -> tuple[float, float]:
    """Seconds for one image of a forward pass and of one forward and back, at the evaluation's batch size."""
    x, y = next(iter(work.in_order(work.split.test, work.recipe.evaluation.batch_size).once()))
    forward, gradient = [], []
    for model in models:
        model.eval()
        _both(model, x, y, work.device)
        one, other = _both(model, x, y, work.device)
        forward.append(one / len(x))
        gradient.append(other / len(x))
    return median(forward), median(gradient)


def _both(model: nn.Module, x: Tensor, y: Tensor, device: torch.device) -> tuple[float, float]:
    begun = now(device)
    with torch.no_grad():
        model(x)
    between = now(device)
    asked = x.clone().requires_grad_()
    torch.autograd.grad(nn.functional.cross_entropy(model(asked), y), asked)
    return between - begun, now(device) - between


def _peak(device: torch.device) -> int:
    """Bytes: the most that this process ever held, libraries included; on a GPU the most that PyTorch had there."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _main() -> None:
    try:
        found = probed(json.load(sys.stdin))
    except HarpError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    _main()
