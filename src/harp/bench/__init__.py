"""One network under every runner there is: how fast, how large, in how much memory, and with the same logits."""

from harp.bench.bench import Plan, bench
from harp.bench.subject import Subject, subjects

__all__ = ["Plan", "Subject", "bench", "subjects"]
