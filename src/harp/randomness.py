"""Named randomness: every draw has a seed and a name, so resuming or measuring more often changes no draw."""

import hashlib

import torch


def seed_of(seed: int, *keys: str | int) -> int:
    """A 63-bit seed that depends on the run's `seed` and on every key, in order, and on nothing else."""
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for the draw named by `keys`, e.g. `generator(0, "prune", "attack", step)`."""
    return torch.Generator(device).manual_seed(seed_of(seed, *keys))
