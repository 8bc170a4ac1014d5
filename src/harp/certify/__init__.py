"""Certificates by randomised smoothing: noise in whole numbers, and what counts of answers prove."""

from harp.certify.bounds import Bets, bar, lower_bound, radius
from harp.certify.noise import drawn, noisy, thresholds
from harp.certify.smoothing import Certificate, Smoothed, Smoothing

__all__ = [
    "Bets",
    "Certificate",
    "Smoothed",
    "Smoothing",
    "bar",
    "drawn",
    "lower_bound",
    "noisy",
    "radius",
    "thresholds",
]
