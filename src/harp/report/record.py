"""What a run directory recorded, as values that cannot change; what is read from its files is checked against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy
from numpy.typing import NDArray
from pydantic import Field

from harp.config.values import Granularity
from harp.threats import Threat

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Whole = Annotated[int, Field(gt=0, lt=1 << 63)]
Finite = Annotated[float, Field(gt=-1e30, lt=1e30)]


@dataclass(frozen=True)
class Accuracy:
    """A share of `n` test images in [0, 1], with the ends of its 95 % interval; `doubts` speak against it.

    `examined` says whether somebody looked for some, where it is a share to doubt.
    """

    accuracy: Share
    low: Share
    high: Share
    n: Count
    doubts: tuple[str, ...] = ()
    examined: bool = True


@dataclass(frozen=True)
class ModelResult:
    """One evaluated model: what is left of its prunable weights and of its multiply-accumulates per image, of how many.

    `accuracies` go by `clean`, attack or `worst`.
    """

    name: str
    kept: Count
    total: Whole
    macs: Count
    total_macs: Whole
    accuracies: Mapping[str, Accuracy]

    def left(self, of: str) -> tuple[int, int]:
        """What is left, and of how many, in "parameters" or in "macs"."""
        return (self.macs, self.total_macs) if of == "macs" else (self.kept, self.total)


@dataclass(frozen=True)
class Evaluation:
    """The threat, each attack's constructor by name, and the results of `dense`, `pruned` and `finetuned`."""

    threat: Threat
    attacks: Mapping[str, str]
    models: Mapping[str, ModelResult]


@dataclass(frozen=True)
class Curve:
    """Robust accuracy of `n` images, in [0, 1], at each `eps` (increasing, from 0), and its 95 % interval: [m] each."""

    eps: NDArray[numpy.float64]
    accuracy: NDArray[numpy.float64]
    low: NDArray[numpy.float64]
    high: NDArray[numpy.float64]
    n: int


@dataclass(frozen=True)
class SiteShare:
    """How many units a pool keeps, and would in a uniform allocation; its rate in [0, 1], None where not learned."""

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

    `sites` are pools of units ("weights", "channels", as `granularity` says) in the model's order.
    """

    method: str
    granularity: Granularity
    of: Literal["parameters", "macs"]
    keep: Share
    budget: Count
    price: Count
    total: Whole
    density_before: Finite
    sites: tuple[SiteShare, ...]

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
        return "multiply-accumulates" if self.of == "macs" else "weights"

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


@dataclass(frozen=True)
class Stage:
    """A training stage: its metric records in order and its done-marker."""

    name: str
    records: tuple[Mapping[str, Any], ...]
    done: Mapping[str, Any]

    @property
    def section(self) -> str:
        """The recipe's section for this stage."""
        return self.name.partition("-")[2]

    @property
    def epochs(self) -> float:
        """How long the stage lasted, in epochs; 0 where it recorded nothing."""
        return float(self.records[-1]["epoch"]) if self.records else 0.0


@dataclass(frozen=True)
class Examples:
    """Test images (k, c, h, w), and by model their adversarial versions and two predictions each (k, 2)."""

    images: NDArray[numpy.float64]
    labels: tuple[int, ...]
    adversarial: Mapping[str, NDArray[numpy.float64]]
    predictions: Mapping[str, NDArray[numpy.int64]]


@dataclass(frozen=True)
class Record:
    """All that a report is made from; `dense_bytes`: the size of the dense network's file, None without pretraining.

    `curves` are of the models that have one.
    """

    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any]
    data: DataSet
    stages: tuple[Stage, ...]
    notes: tuple[tuple[str, str], ...]
    allocation: Allocation
    evaluation: Evaluation
    curves: Mapping[str, Curve]
    examples: Examples
    manifest: Export
    dense_bytes: int | None

    def stage(self, name: str) -> Stage:
        """The training stage `name`; raises `KeyError` where the run has none."""
        return {stage.name: stage for stage in self.stages}[name]
