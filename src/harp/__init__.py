"""Neural networks made small without being made fragile: adversarially robust pruning."""

from harp.attacks import ATTACKS, PGD
from harp.data import DATA, Loader, Resident
from harp.errors import HarpError
from harp.evaluation import evaluate, summary
from harp.export import bake
from harp.models import MODELS, Normalised
from harp.objectives import AWP, MART, OBJECTIVES, PGDAT, TRADES, FastAT, FreeAT, Natural
from harp.pruners import METHODS, Harp, Hydra, Masked, Pruner, Reparam
from harp.sparsity import Budget, Masks, Site, Sites, find_sites
from harp.threats import Threat
from harp.training import Precision, fit, sgd

__version__ = "0.1.0"

__all__ = [
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
    "FastAT",
    "FreeAT",
    "Harp",
    "HarpError",
    "Hydra",
    "Loader",
    "Masked",
    "Masks",
    "Natural",
    "Normalised",
    "Precision",
    "Pruner",
    "Reparam",
    "Resident",
    "Site",
    "Sites",
    "Threat",
    "bake",
    "evaluate",
    "find_sites",
    "fit",
    "sgd",
    "summary",
]
