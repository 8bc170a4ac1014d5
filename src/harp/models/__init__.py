"""Networks sized for small images, everyone else's networks, and what makes them speak plain logits."""

from harp.models import preact_resnet, resnet, small, vgg, wide_resnet  # noqa: F401 (importing registers them)
from harp.models.adapt import Function, Logits, Normalised, logits_of, opened
from harp.models.base import MODELS, Factory, Size, size_of
from harp.models.check import check_logits, classes_of, placed
from harp.models.own import own_file
from harp.models.plain import plain
from harp.models.sources import build
from harp.models.weights import load_weights

__all__ = [
    "MODELS",
    "Factory",
    "Function",
    "Logits",
    "Normalised",
    "Size",
    "build",
    "check_logits",
    "classes_of",
    "load_weights",
    "logits_of",
    "opened",
    "own_file",
    "placed",
    "plain",
    "size_of",
]
