"""Successive halving: many settings for a few epochs, the best of them for more (Jamieson & Talwalkar, AISTATS 2016).

Rung by rung for all, not as each trial ends, so that what goes on does not depend on which process is quicker.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harp.config import make_recipe, plan, settings_of
from harp.errors import HarpError
from harp.tuning.schema import Rung, Trial


def ladder(trials: int, rungs: int, factor: int) -> tuple[Rung, ...]:
    """9 trials of a ninth of the epochs, 3 of a third, 1 of all, for 9, 3 and 3."""
    return tuple(
        Rung(trials=max(1, trials // factor**at), share=float(factor) ** (at - rungs + 1)) for at in range(rungs)
    )


def going_on(measured: Sequence[Trial], count: int) -> list[Trial]:
    """The best `count` by robust accuracy on held-out images, then clean, then as they come; failed ones never."""
    there = [trial for trial in measured if trial.robust is not None]
    return sorted(there, key=lambda trial: (-(trial.robust or 0.0), -(trial.clean or 0.0), trial.number))[:count]


def shortened(values: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The recipe's settings with so much of its epochs of pruning and fine-tuning, one at least in each stage."""
    try:
        recipe = make_recipe(values)
        stages = plan(recipe.stages)
        lengths = {stage.number: _of(settings_of(recipe, stage).epochs, share) for stage in stages}
    except HarpError:
        return dict(values)  # told when the cell runs
    listed = [
        {stage.kind: {**stage.own, "epochs": lengths[stage.number]}} if "epochs" in stage.own else item
        for stage, item in zip(stages, recipe.stages, strict=True)
    ]
    sections = {
        kind: {**values.get(kind, {}), "epochs": _of(getattr(recipe, kind).epochs, share)}
        for kind in ("prune", "finetune")
    }
    return {**values, **sections, **({"stages": listed} if "stages" in values else {})}


def _of(epochs: int, share: float) -> int:
    return max(1, math.ceil(epochs * share - 1e-9))
