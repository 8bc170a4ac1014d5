"""What results.json of an arena holds; `docs/arena.schema.json` is made of it."""

from typing import Any

from pydantic import BaseModel


class Share(BaseModel):
    """A share of images in [0, 1], its 95 % interval over images, and the doubts that are open."""

    accuracy: float
    low: float
    high: float
    doubts: tuple[str, ...] = ()
    balanced: float | None = None
    """the mean of the classes' accuracies, where they are of unequal size"""


class Latency(BaseModel):
    """How fast a package answers one image on one thread, by processor time, beside that of its dense network."""

    seconds: float
    """the least over rounds, which a busy machine disturbs least"""
    times_faster: float
    """than the dense network's package: the median over rounds, and its 95 % interval"""
    low: float
    high: float


class Dense(BaseModel):
    """The dense network of one seed, from which its rows start."""

    seed: int
    folder: str
    accuracies: dict[str, Share]
    n: int
    total: int
    total_macs: int
    bytes: int
    package_bytes: int | None
    seconds: float
    forwards: float


class Result(BaseModel):
    """One finished cell. `kept` counts the non-zero weights in the exported file, `allowed` is the budget."""

    row: str
    method: str
    keep: float
    seed: int
    folder: str
    accuracies: dict[str, Share]
    """by measure: clean, each attack, worst"""
    n: int
    kept: int
    total: int
    macs: int
    total_macs: int
    budget: int
    of: str
    bytes: int
    package_bytes: int | None
    """None where the network could not be packed"""
    latency: Latency | None
    """None until all cells have run, and where there is no package to time"""
    shares: dict[str, float]
    """the share of its units that each layer group keeps"""
    seconds: float
    """of training"""
    forwards: float
    """what training cost, in forward passes of one image; pretraining is not in it but for methods from scratch"""
    notes: tuple[str, ...]


class Failure(BaseModel):
    row: str
    keep: float
    seed: int
    reason: str


class Neighbours(BaseModel):
    """Two rows next to one another in a ranking, on the same images of the seeds that both have: McNemar's test."""

    keep: float
    better: str
    worse: str
    n: int
    difference: float
    low: float
    high: float
    p: float


class Standing(BaseModel):
    """A row in the ranking of its budget: mean over seeds and sample deviation, None of a single seed."""

    keep: float
    rank: int
    row: str
    seeds: tuple[int, ...]
    clean: float
    clean_std: float | None
    robust: float
    robust_std: float | None
    doubted: bool


class Results(BaseModel):
    """results.json of an arena."""

    name: str
    recipe: str
    data: str
    """the data set's name"""
    threat: dict[str, Any]
    attacks: dict[str, str]
    dense: tuple[Dense, ...]
    measured: tuple[Result, ...]
    failed: tuple[Failure, ...]
    unfinished: int
    ranking: tuple[Standing, ...]
    neighbours: tuple[Neighbours, ...]
    environment: dict[str, Any]
