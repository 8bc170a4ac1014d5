"""What the files of a run hold, as types: who writes a file fills one of them, and who reads it is given one.

`allocation.json` is an `Allocation`, `data.json` a `DataSet`, `results.json` holds `Results`, `manifest.json` an
`Export`, every line of `metrics.jsonl` is a `Line`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field
from torch import Tensor

from harp.config.values import Granularity, Measure

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Whole = Annotated[int, Field(gt=0, lt=1 << 63)]
Finite = Annotated[float, Field(gt=-1e30, lt=1e30)]
Layers = Annotated[dict[str, Finite], Field(min_length=1)]


@dataclass(frozen=True)
class Accuracy:
    """A share of `n` test images in [0, 1], with the ends of its 95 % interval; `doubts` speak against it.

    `examined` says whether somebody looked for some, where it is a share to doubt. `balanced` is the same with all
    classes counting alike, where they are of unequal size.
    """

    accuracy: Share
    low: Share
    high: Share
    n: Count
    doubts: tuple[str, ...] = ()
    examined: bool = True
    balanced: "Accuracy | None" = None


class Sizes(BaseModel):
    """What is left of a network's prunable weights and of its multiply-accumulates per image, and of how many."""

    kept: Count
    total: Whole
    macs: Count
    total_macs: Whole


class Row(Sizes, extra="allow"):
    """A model's row of results.json: its sizes, and a cell for each measure."""

    __pydantic_extra__: dict[str, Accuracy] = Field(init=False)
    clean: Accuracy
    worst: Accuracy


class Results(BaseModel):
    threat: dict[str, Any]
    attacks: dict[str, str]
    models: dict[str, Row]


@dataclass(frozen=True)
class SiteShare:
    """How many units a group keeps, and would in a uniform allocation; its rate in [0, 1], None where not learned."""

    name: str
    size: Whole
    kept: Count
    uniform: Count
    rate: Share | None

    @property
    def share(self) -> float:
        return self.kept / self.size

    @property
    def uniform_share(self) -> float:
        return self.uniform / self.size


@dataclass(frozen=True)
class Allocation:
    """The settled budget: `price` spent of the `budget` allowed, both in what `of` names, of which there are `total`.

    `sites` are layer groups of units ("weights", "channels", as `granularity` says) in the model's order. Where
    channels went before, `total` is what they left, and `whole`, of which the recipe's share is meant, what there was.
    Of a latency `total` is what all weights would cost at the price that they have where few are left.
    """

    method: str
    granularity: Granularity
    of: Measure
    keep: Share
    budget: Count
    price: Count
    total: Whole
    density_before: Finite
    sites: tuple[SiteShare, ...]
    whole: Whole | None = None

    @property
    def kept(self) -> int:
        """Units that stay."""
        return sum(site.kept for site in self.sites)

    @property
    def size(self) -> int:
        """Units that there were."""
        return sum(site.size for site in self.sites)

    @property
    def unit(self) -> str:
        """What the budget counts, in words."""
        return {"macs": "multiply-accumulates", "latency": "cycles"}.get(self.of, "weights")

    @property
    def learned(self) -> bool:
        """Whether the method learned keep rates."""
        return any(site.rate is not None for site in self.sites)


@dataclass(frozen=True)
class DataSet:
    """The images of a run: whose they are, what tells them from others, how many of each use, and their classes."""

    name: str
    fingerprint: str
    train: Count
    validation: Count
    test: Count
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Size:
    """How many weights a layer had, and how many of them it keeps."""

    size: Count
    kept: Count


@dataclass(frozen=True)
class Judged:
    """Of how many images a package was asked, and of how many its verdict was another than the network's."""

    compared: Count
    different: Count


@dataclass(frozen=True)
class Packed:
    """The package of an export."""

    file: str
    bytes: Count
    values: str
    judged: Judged | None


@dataclass(frozen=True)
class Export:
    """The manifest of an export: its file, weights by layer, how it was checked, and its package if it has one."""

    file: str
    bytes: Count
    sha256: str
    total: Whole
    kept: Count
    sites: Mapping[str, Size]
    logits_equal: bool
    checked_images: Count
    package: Packed | None = None


class Validation(BaseModel):
    """Accuracies on the validation images."""

    clean: Share
    robust: Share


class Forces(BaseModel):
    """The parts of the rates' gradient, by layer."""

    robust: Layers
    size: Layers
    decay: Layers


class Learned(BaseModel, extra="allow"):
    """What a method tells of a search, and of its rates where it learns some."""

    density: Finite | None = None
    penalty: Finite | None = None
    gamma: Finite | None = None
    target_met: bool | None = None
    rates: Layers | None = None
    rate_gradients: Forces | None = None


class Line(BaseModel):
    """One moment of training."""

    step: Count
    epoch: Finite
    lr: Finite | None = None
    loss: Finite | None = None
    validation: Validation | None
    averaged: Validation | None = None
    """as `validation`, of the averaged weights where there are some"""
    pruner: Learned | None = None


class CurveTree(BaseModel, arbitrary_types_allowed=True):
    eps: Tensor
    accuracy: Tensor
    low: Tensor
    high: Tensor
    n: Count


class ExamplesTree(BaseModel, arbitrary_types_allowed=True):
    images: Tensor
    labels: Tensor
    adversarial: dict[str, Tensor]
    predictions: dict[str, Tensor]
