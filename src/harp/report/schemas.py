"""What the pages tell of a recipe, and so ask of one."""

import pydantic

from harp.config import KINDS, Turn


class Section(pydantic.BaseModel, extra="allow"):
    objective: str
    awp: float


class Pruned(Section):
    options: dict[str, bool | int | float | str | None] = {}


class Named(pydantic.BaseModel, extra="allow"):
    name: str


class Computed(pydantic.BaseModel, extra="allow"):
    bf16: str
    channels_last: bool
    compile: bool


class Told(Named):
    """What the pages tell of a recipe, which may be of another version."""

    stages: tuple[Turn, ...] = KINDS
    model: Named
    precision: Computed
    pretrain: Section
    prune: Pruned
    finetune: Section
