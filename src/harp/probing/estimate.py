"""A run's cost, put together from what its probes tell; nothing of the run is begun."""

import json
import subprocess
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.config import STEP, Recipe, forwards, plan
from harp.errors import HarpError


@dataclass(frozen=True)
class Range:
    """From the least to the most."""

    low: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Estimate:
    """What one stage would take.

    `forwards` are forward passes of one image, a pass forward and back being three of them; `seconds` are this
    machine's; `memory` is the most bytes at any moment, `disk` the bytes of its checkpoints. `steps` None: it makes
    none. A stage that is done takes nothing.
    """

    stage: str
    steps: int | None
    forwards: Range
    seconds: Range
    memory: int | None
    disk: int | None
    done: bool = False


def estimate(
    recipe: Recipe,
    folder: Path | None = None,
    edited: Collection[str] = (),
    tell: Callable[[str], None] = lambda text: None,
) -> list[Estimate]:
    """What the training stages and the evaluation of a recipe would take, those in `folder` that are done apart.

    Each is probed for seconds, in processes of their own; `tell` hears which. Raises `HarpError` for all that the run
    would refuse before it begins.
    """
    place = str(folder) if folder else None
    task = {"recipe": recipe.model_dump(mode="json"), "folder": place, "edited": list(edited)}
    tell("probing: time")
    found = _probe({**task, "memory": None})
    rows = [Estimate(name, None, *_NOTHING, None, None, done=True) for name in found["done"]]
    for stage in plan(recipe.stages):
        if (told := found["stages"].get(stage.name)) is None:
            continue
        tell(f"probing: memory of {stage.name}")
        seconds = told["steps"] * told["step"] + told["validations"] * told["validation"]
        passes = forwards(recipe, stage, told["steps"])
        memory = _probe({**task, "memory": stage.name})["peak"]
        ranges = Range(passes, passes), Range(seconds, seconds)
        rows.append(Estimate(stage.name, told["steps"], *ranges, memory, told["bytes"]))
    if found["evaluation"] is None:
        return [*rows, Estimate("evaluate", None, *_NOTHING, None, None, done=True)]
    tell("probing: memory of evaluate")
    memory = _probe({**task, "memory": "evaluate"})["peak"]
    return [*rows, _evaluation(found["evaluation"], memory)]


_NOTHING = Range(0.0, 0.0), Range(0.0, 0.0)


def _evaluation(told: Mapping[str, Any], memory: int) -> Estimate:
    images = told["networks"] * told["images"]
    ends = [told["least"], told["most"]]
    passes = [images * (forward + STEP * gradient) for forward, gradient in ends]
    seconds = [images * (forward * told["forward"] + gradient * told["gradient"]) for forward, gradient in ends]
    return Estimate("evaluate", None, Range(*passes), Range(*seconds), memory, None)


def _probe(task: Mapping[str, Any]) -> dict[str, Any]:
    words = [sys.executable, "-m", "harp.probing.probe"]
    done = subprocess.run(words, input=json.dumps(task), capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise HarpError(f"the probe failed: {reason}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "error" in found:
        raise HarpError(found["error"])
    return found
