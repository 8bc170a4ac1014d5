"""What a run directory recorded, as values that cannot change; what is read from its files is checked against them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from harp.config import Planned, merged
from harp.threats import Threat
from harp.written import Accuracy, Allocation, Count, DataSet, Export, Whole


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
        """What is left, and of how many, in "parameters" or in "macs"; what a latency left is told in parameters."""
        return (self.macs, self.total_macs) if of == "macs" else (self.kept, self.total)


@dataclass(frozen=True)
class Measured:
    """The threat, each attack's constructor by name, and the results of `dense`, `pruned` and the others, in order."""

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
class Stage:
    """A training stage that was `planned` so: its metric records in order and its done-marker."""

    planned: Planned
    records: tuple[Mapping[str, Any], ...]
    done: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`2-prune`, as its folder is called."""
        return self.planned.folder

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
class RunRecord:
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
    evaluation: Measured
    curves: Mapping[str, Curve]
    examples: Examples
    manifest: Export
    dense_bytes: int | None

    @property
    def search(self) -> Stage:
        """The prune stage whose budget the network has: the last."""
        return [stage for stage in self.stages if stage.planned.kind == "prune"][-1]

    @property
    def final(self) -> ModelResult:
        """The network that was exported: the last stage's."""
        return self.evaluation.models[self.stages[-1].planned.network]

    def settings(self, stage: Stage) -> Mapping[str, Any]:
        """What the recipe says of a stage: its section, and over it the stage's own settings."""
        return merged(self.recipe[stage.planned.kind], stage.planned.own)
