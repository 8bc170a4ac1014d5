"""Natural corruptions of images, and how often a network is right under them."""

from harp.evaluation.corruptions import pixels, shapes  # noqa: F401  each registers its kinds
from harp.evaluation.corruptions.base import CORRUPTIONS, LEVELS, Corruption, corrupted
from harp.evaluation.corruptions.measuring import under_corruptions

__all__ = ["CORRUPTIONS", "LEVELS", "Corruption", "corrupted", "under_corruptions"]
