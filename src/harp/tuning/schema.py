"""What tuning.json of a search holds; `docs/tuning.schema.json` is made of it."""

from typing import Any

from pydantic import BaseModel


class Rung(BaseModel):
    """How many trials of each row a rung has, and which share of the recipe's epochs each of them trains."""

    trials: int
    share: float


class Trial(BaseModel):
    """One row with settings of its own in one rung; accuracies are on the held-out images, None where it failed."""

    row: str
    number: int
    """among the row's trials, from 0, which is the row as it stands"""
    rung: int
    settings: dict[str, Any]
    folder: str
    robust: float | None
    clean: float | None
    epochs: float
    """of pruning and fine-tuning, and of pretraining where the method begins from scratch"""
    forwards: float
    """what that cost, in forward passes of one image; validation is not in it"""
    reason: str | None = None
    """why it failed"""


class Best(BaseModel):
    """The settings with which a row did best on the last rung, and what finding them took."""

    row: str
    settings: dict[str, Any]
    robust: float
    clean: float
    trials: int
    epochs: float
    forwards: float


class Tuned(BaseModel):
    """tuning.json of a search."""

    name: str
    recipe: str
    data: str
    """the data set's name"""
    keep: float
    seed: int
    held_out: int
    """training images that judged, none of them trained on; the test set judged nothing"""
    space: dict[str, Any]
    rungs: tuple[Rung, ...]
    best: tuple[Best, ...]
    """best row first; empty until the last rung has ended"""
    trials: tuple[Trial, ...]
    environment: dict[str, Any]
