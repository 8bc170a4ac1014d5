"""Attacks: stateless, (model, images, labels, threat, noise) -> adversarial images.

Who calls one names its noise: `evaluation/evaluate.py` by seed, attack and image, `training/loop.py` by seed, stage and
step.
"""

from harp.attacks.apgd import APGD
from harp.attacks.autoattack import autoattack
from harp.attacks.base import Attack, AttackWarning, Cascade, fits
from harp.attacks.cw_l2 import CWL2
from harp.attacks.fab import FAB
from harp.attacks.fmn import FMN
from harp.attacks.malt import MALT
from harp.attacks.nearest import Nearest
from harp.attacks.official import Official
from harp.attacks.pgd import ATTACKS, PGD
from harp.attacks.square import Square
from harp.attacks.surrogate import Offer, Offered, Quick
from harp.attacks.versions import VERSIONS, components

__all__ = [
    "APGD",
    "ATTACKS",
    "CWL2",
    "FAB",
    "FMN",
    "MALT",
    "PGD",
    "VERSIONS",
    "Attack",
    "AttackWarning",
    "Cascade",
    "Nearest",
    "Offer",
    "Offered",
    "Official",
    "Quick",
    "Square",
    "autoattack",
    "components",
    "fits",
]
