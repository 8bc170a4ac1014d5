"""Neural networks made small without being made fragile: adversarially robust pruning."""

from harp.attacks import ATTACKS, PGD
from harp.data import DATA, Loader, Resident
from harp.errors import HarpError
from harp.evaluation import evaluate, summary
from harp.export import bake
from harp.models import MODELS, Logits, Normalised
from harp.objectives import AWP, MART, OBJECTIVES, PGDAT, TRADES, FastAT, FreeAT, Natural
from harp.pruners import METHODS, Harp, Hydra, Masked, Pruner, RatesOnly, Reparam, ScoresOnly
from harp.sparsity import (
    ALLOCATIONS,
    Budget,
    ChannelUnits,
    Masks,
    Site,
    Sites,
    Units,
    Weights,
    find_channels,
    find_sites,
    find_units,
    remove,
    resize,
    trace_macs,
)
from harp.threats import Threat
from harp.training import Precision, fit, sgd

__version__ = "0.1.0"

__all__ = [
    "ALLOCATIONS",
    "ATTACKS",
    "AWP",
    "DATA",
    "MART",
    "METHODS",
    "MODELS",
    "OBJECTIVES",
    "PGD",
    "PGDAT",
    "TRADES",
    "Budget",
    "ChannelUnits",
    "FastAT",
    "FreeAT",
    "Harp",
    "HarpError",
    "Hydra",
    "Loader",
    "Logits",
    "Masked",
    "Masks",
    "Natural",
    "Normalised",
    "Precision",
    "Pruner",
    "RatesOnly",
    "Reparam",
    "Resident",
    "ScoresOnly",
    "Site",
    "Sites",
    "Threat",
    "Units",
    "Weights",
    "bake",
    "evaluate",
    "find_channels",
    "find_sites",
    "find_units",
    "fit",
    "remove",
    "resize",
    "sgd",
    "summary",
    "trace_macs",
]
