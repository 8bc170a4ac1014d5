"""What one call may be told, as the sections of a recipe, whose defaults are the paper's."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from harp.config import Recipe, make_recipe
from harp.config.values import Granularity, Measure
from harp.data import Batch, Batches
from harp.errors import HarpError, choices
from harp.networks.assess import check
from harp.pruners import METHODS, begins_untrained

# Of an evaluation's settings those that are about a network alone, and not about a data set or a run's folder.
_MEASURING = ("attacks", "engine", "bf16", "steps", "restarts", "step", "batch_size", "doubts", "acknowledge")


class PruneOptions(TypedDict, total=False):
    """What `prune` may be told beside the network, its images, the budget, eps and the method."""

    norm: Literal["inf", "2"]
    """of the perturbation: inf"""
    epochs: int | tuple[int, int]
    """passes over the training images, of the search and of fine-tuning, one number for both: (20, 100)"""
    lr: float | tuple[float, float]
    """largest learning rates of the search and of fine-tuning, one number for both: (0.1, 0.01)"""
    objective: str
    """what both minimise, by name: pgd-at; what learns from a teacher learns from the network that is given"""
    attack: Mapping[str, Any]
    """settings of the attack trained against, by their names in a recipe: ten steps of a quarter of eps"""
    options: Mapping[str, Any]
    """the method's own settings (`harp list methods NAME`): its defaults"""
    granularity: Granularity
    """what is kept or removed as one: weights; channels leave a smaller network"""
    of: Measure | None
    """what `keep` is a share of; None: macs for channels, else parameters"""
    held: Batches | Iterable[Batch] | None
    """images held out of training and test, by whose robust accuracy an epoch is selected; None: the last is kept"""
    evaluation: Mapping[str, Any]
    """settings of the evaluation, by their names in a recipe: fgsm, pgd, cw; doubts looked for on 128 images"""
    seed: int
    """of every random draw of harp's: 0"""
    folder: Path | str | None
    """where the same call goes on after a kill; None: nothing is kept"""
    progress: bool
    """bars on a terminal and in a notebook; elsewhere nothing is shown: True"""


def check_options(options: Mapping[str, Any]) -> None:
    """Raises `HarpError` for an option that there is not."""
    if strange := sorted(set(options) - set(PruneOptions.__annotations__)):
        raise HarpError(f"no option {strange[0]!r}; {choices(strange[0], PruneOptions.__annotations__)}")


def recipe_of(keep: float, eps: float | str, method: str, options: PruneOptions) -> Recipe:
    """The call as a recipe; raises `HarpError` for values that none could have, and for a method that trains from
    scratch."""
    common = {"objective": options["objective"]} if "objective" in options else {}
    prune: dict[str, Any] = {"keep": keep, "method": method, **common}
    prune |= {name: options[name] for name in ("options", "granularity", "of") if name in options}
    finetune = dict(common)
    for name in ("epochs", "lr"):
        if name in options:
            prune[name], finetune[name] = _both(name, options[name])
    evaluation = options.get("evaluation", {})
    if strange := sorted(set(evaluation) - set(_MEASURING)):
        raise HarpError(f"evaluation: no setting {strange[0]!r} here; {choices(strange[0], _MEASURING)}")
    recipe = make_recipe(
        {
            "seed": options.get("seed", 0),
            "threat": {"norm": options.get("norm", "inf"), "eps": eps},
            "attack": options.get("attack", {}),
            "prune": prune,
            "finetune": finetune,
            "evaluation": evaluation,
        }
    )
    check(recipe.evaluation, recipe.threat.order)
    if begins_untrained(method, recipe.prune.options):
        dense = [name for name in METHODS if not begins_untrained(name, {})]
        raise HarpError(
            f"{method} trains from scratch, and harp.prune begins with the weights of the network; "
            f"`harp run --prune.method {method}` trains it; from a dense network begin: {', '.join(dense)}"
        )
    return recipe


def _both(name: str, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list):
        return value, value
    if len(value) != 2:
        raise HarpError(f"{name}: expected one number, or two for search and fine-tuning, got {value!r}")
    return value[0], value[1]
