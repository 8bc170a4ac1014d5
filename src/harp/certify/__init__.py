"""Proofs: randomised smoothing, by noise in whole numbers and counts of answers; and bounds by intervals."""

from harp.certify.bounds import Bets, bar, lower_bound, radius
from harp.certify.intervals import Bounds, ball
from harp.certify.noise import drawn, noisy, thresholds
from harp.certify.rounding import FLOAT32, FLOAT64, Interval
from harp.certify.smoothing import Certificate, Smoothed, Smoothing

__all__ = [
    "FLOAT32",
    "FLOAT64",
    "Bets",
    "Bounds",
    "Certificate",
    "Interval",
    "Smoothed",
    "Smoothing",
    "ball",
    "bar",
    "drawn",
    "lower_bound",
    "noisy",
    "radius",
    "thresholds",
]
