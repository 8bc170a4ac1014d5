"""Attacks: stateless, (model, images, labels, threat, noise) -> adversarial images."""

from harp.attacks.base import Attack
from harp.attacks.pgd import ATTACKS, PGD

__all__ = ["ATTACKS", "PGD", "Attack"]
