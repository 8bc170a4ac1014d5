"""Networks sized for small images, a user's own networks, and normalisation inside the network."""

from harp.models import resnet, small, vgg, wide_resnet  # noqa: F401 (importing registers them)
from harp.models.adapt import Normalised
from harp.models.base import MODELS, Factory
from harp.models.check import check_logits
from harp.models.sources import build
from harp.models.weights import load_weights

__all__ = ["MODELS", "Factory", "Normalised", "build", "check_logits", "load_weights"]
