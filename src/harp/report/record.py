"""What a run directory recorded, as values that cannot change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from harp.threats import Threat


@dataclass(frozen=True)
class Accuracy:
    """A share of `n` test images in [0, 1], with the ends of its 95 % interval."""

    accuracy: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class ModelResult:
    """One evaluated model: its weights kept of its total, and accuracies by `clean`, attack or `worst`."""

    name: str
    kept: int
    total: int
    accuracies: Mapping[str, Accuracy]

    @property
    def density(self) -> float:
        return self.kept / self.total


@dataclass(frozen=True)
class Evaluation:
    """The threat, each attack's constructor by name, and the results of `dense`, `pruned` and `finetuned`."""

    threat: Threat
    attacks: Mapping[str, str]
    models: Mapping[str, ModelResult]


@dataclass(frozen=True)
class SiteShare:
    """How many weights a site keeps, and how many it would in a uniform allocation; rate in [0, 1]."""

    name: str
    size: int
    kept: int
    uniform: int
    rate: float | None

    @property
    def share(self) -> float:
        return self.kept / self.size

    @property
    def uniform_share(self) -> float:
        return self.uniform / self.size


@dataclass(frozen=True)
class Allocation:
    """The settled budget: `budget` weights of `total`, and the sites they went to in the model's order."""

    method: str
    keep: float
    budget: int
    total: int
    density_before: float | None
    sites: tuple[SiteShare, ...]

    @property
    def kept(self) -> int:
        return sum(site.kept for site in self.sites)


@dataclass(frozen=True)
class Stage:
    """A training stage: its metric records in order and its done-marker."""

    name: str
    records: tuple[Mapping[str, Any], ...]
    done: Mapping[str, Any]

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
    """All that a report is made from."""

    recipe: Mapping[str, Any]
    recipe_text: str
    environment: Mapping[str, Any]
    data: Mapping[str, Any]
    stages: tuple[Stage, ...]
    notes: tuple[tuple[str, str], ...]
    allocation: Allocation
    evaluation: Evaluation
    examples: Examples
    manifest: Mapping[str, Any]

    def stage(self, name: str) -> Stage:
        """The training stage `name`; raises `KeyError` where the run has none."""
        return {stage.name: stage for stage in self.stages}[name]
