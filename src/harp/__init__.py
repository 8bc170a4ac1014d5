"""Neural networks made small without being made fragile: adversarially robust pruning."""

from harp.attacks import APGD, ATTACKS, CWL2, FAB, PGD, Official, Square, autoattack
from harp.data import DATA, Loader, Resident
from harp.errors import HarpError
from harp.evaluation import (
    DOUBTS,
    balanced_accuracy,
    evaluate,
    examine,
    mcnemar,
    radius_at,
    security_curve,
    spread,
    summary,
)
from harp.export import Deployed, bake, load, pack, to_onnx
from harp.models import MODELS, Logits, Normalised, plain
from harp.objectives import AWP, MART, OBJECTIVES, PGDAT, TRADES, FastAT, FreeAT, Natural
from harp.pipeline.benchmark import benchmark
from harp.pipeline.networks import load_model
from harp.pruners import METHODS, Harp, Hydra, Masked, Pruner, RatesOnly, Reparam, ScoresOnly, SearchWarning
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
from harp.version import VERSION

__version__ = VERSION

__all__ = [
    "ALLOCATIONS",
    "APGD",
    "ATTACKS",
    "AWP",
    "CWL2",
    "DATA",
    "DOUBTS",
    "FAB",
    "MART",
    "METHODS",
    "MODELS",
    "OBJECTIVES",
    "PGD",
    "PGDAT",
    "TRADES",
    "Budget",
    "ChannelUnits",
    "Deployed",
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
    "Official",
    "Precision",
    "Pruner",
    "RatesOnly",
    "Reparam",
    "Resident",
    "ScoresOnly",
    "SearchWarning",
    "Site",
    "Sites",
    "Square",
    "Threat",
    "Units",
    "Weights",
    "autoattack",
    "bake",
    "balanced_accuracy",
    "benchmark",
    "evaluate",
    "examine",
    "find_channels",
    "find_sites",
    "find_units",
    "fit",
    "load",
    "load_model",
    "mcnemar",
    "pack",
    "plain",
    "radius_at",
    "remove",
    "resize",
    "security_curve",
    "sgd",
    "spread",
    "summary",
    "to_onnx",
    "trace_macs",
]
