"""`harp inspect`: its flags, which are settings of the recipe under their own names."""

from collections.abc import Sequence
from typing import Any

from pydantic import Field, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from harp.cli.flags import Parser, check_count
from harp.config import ModelSettings, PruneSettings, make_recipe

ALLOCATION = "how the layers share the budget: uniform, erk, lamp, ideal-gas, global, or a YAML or JSON file"
KEEP = {"weights": 0.01, "channels": 0.5}
IMAGES = {  # what is usual, the most that is counted in a network that is really built, and what it means
    "classes": (10, 10**6, "logits"),
    "channels": (3, 4096, "channels of an image"),
    "size": (32, 4096, "height and width of an image in pixels"),
}
MODEL = ("width", "include", "exclude")
PRUNE = ("granularity", "of", "floor")


class _Base(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="forbid")


def _fields() -> dict[str, Any]:
    fields = {name: ModelSettings.model_fields[name] for name in MODEL}
    fields |= {name: PruneSettings.model_fields[name] for name in PRUNE}
    keep = PruneSettings.model_fields["keep"].description
    usual = f"{keep}; none: {KEEP['weights']} of the weights, {KEEP['channels']} for channels"
    return {
        "keep": (float | None, Field(default=None, description=usual)),
        **{name: (field.annotation, field) for name, field in fields.items()},
        "allocation": (str, Field(default="uniform", description=ALLOCATION)),
    }


_Flags = create_model("_Flags", __base__=_Base, **_fields())


def inspect_model(arguments: Sequence[str]) -> None:
    """Prints the plan for one network; raises `HarpError` for what cannot be built, found or met."""
    parser = Parser(
        "inspect",
        usage="harp inspect MODEL [--classes N] [--channels N] [--size N] [--NAME VALUE ...]",
        description="What pruning would do to a network, before anything is done: what is kept of each layer under "
        "one rule for sharing out, its MACs, which channels go together, and which cannot go and why.",
    )
    parser.add_argument("model", metavar="MODEL", help=ModelSettings.model_fields["name"].description)
    for name, (usual, _, meaning) in IMAGES.items():
        parser.add_argument(f"--{name}", type=int, default=usual, metavar="int", help=f"{meaning} (default: {usual})")
    own, given = parser.read(arguments, _Flags)
    for name, (_, most, _) in IMAGES.items():
        check_count(name, getattr(own, name), most)
    kind = "channels" if given.get("granularity") == "channels" else "weights"
    model = {name: given[name] for name in MODEL if name in given}
    prune = {name: given[name] for name in ("keep", *PRUNE) if name in given}
    recipe = make_recipe({"model": {"name": own.model, **model}, "prune": {"keep": KEEP[kind], **prune}})
    # Imported late, as for all commands: torch takes a second.
    from harp.cli.plan import make_plan
    from harp.cli.tables import print_plan

    allocation = given.get("allocation", "uniform")
    print_plan(make_plan(recipe, allocation, classes=own.classes, channels=own.channels, size=own.size))
