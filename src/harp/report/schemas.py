"""The shapes of those files of a run that the report's values are made from, part by part."""

from typing import Any

import pydantic
from pydantic import Field
from torch import Tensor

from harp.report.record import Accuracy, Count, Whole


class Row(pydantic.BaseModel, extra="allow"):
    """A model's row of results.json: its sizes, and a cell for each measure."""

    __pydantic_extra__: dict[str, Accuracy] = Field(init=False)
    kept: Count
    total: Whole
    macs: Count
    total_macs: Whole
    clean: Accuracy
    worst: Accuracy


class Results(pydantic.BaseModel):
    threat: dict[str, Any]
    attacks: dict[str, str]
    models: dict[str, Row]


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

    model: Named
    precision: Computed
    pretrain: Section
    prune: Pruned
    finetune: Section


class CurveTree(pydantic.BaseModel, arbitrary_types_allowed=True):
    eps: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    n: Count


class ExamplesTree(pydantic.BaseModel, arbitrary_types_allowed=True):
    images: Tensor
    labels: Tensor
    adversarial: dict[str, Tensor]
    predictions: dict[str, Tensor]
