"""Named randomness: every draw has a seed and a name, so resuming or measuring more often changes no draw."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy
import torch
from torch import Tensor


def seed_of(seed: int, *keys: str | int) -> int:
    """A 63-bit seed that depends on the run's `seed` and on every key, in order, and on nothing else."""
    digest = hashlib.sha256(repr((seed, *keys)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *keys: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh generator on `device` for the draw named by `keys`, e.g. `generator(0, "prune", "attack", step)`."""
    return torch.Generator(device).manual_seed(seed_of(seed, *keys))


@contextmanager
def global_draws(device: torch.device, seed: int, *keys: str | int) -> Iterator[None]:
    """Inside, what others draw without a name comes from the draw named by `keys`; outside all is as it was.

    That is torch's generators on the CPU and on `device`, numpy's global one and Python's.
    """
    value = seed_of(seed, *keys)
    # Not torch.manual_seed: a CUDA that has not begun yet would begin at this seed for good.
    cuda = device.type == "cuda"
    mine, theirs = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng([device] if cuda else []):
        try:
            torch.default_generator.manual_seed(value)
            if cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(value)
            random.seed(value)
            numpy.random.seed(value % (1 << 32))
            yield
        finally:
            random.setstate(mine)
            numpy.random.set_state(theirs)


# SplitMix64's increment and multipliers (Steele, Lea & Flood, OOPSLA 2014, figure 13) as signed 64-bit integers.
_GOLDEN, _FIRST, _SECOND = (value - (1 << 64) for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


@dataclass(frozen=True)
class Keyed:
    """Random numbers for a batch of points that depend on each point's own key and on nothing else.

    Not on the batch a point is in, its place there, the device, or how often others draw: the same numbers come from
    the same `Keyed` each time; `at` names another draw. Numbers are those of SplitMix64 begun at the point's key, a
    counter-based generator, 24 bits each. `keys` is int64 [n].
    """

    keys: Tensor

    @classmethod
    def of(cls, points: Tensor, seed: int, *names: str | int) -> "Keyed":
        """The numbers of each of `points` (int64 [n], e.g. places in the data set) for the draw called `names`."""
        return cls(_mixed(points * _GOLDEN + seed_of(seed, *names)))

    def at(self, name: int | Tensor) -> "Keyed":
        """Other numbers for the same points: those of the draw `name`, an integer or one for each point (int64 [n])."""
        return Keyed(_mixed(self.keys ^ _mixed((torch.as_tensor(name, device=self.keys.device) + 1) * _SECOND)))

    def take(self, index: Tensor) -> "Keyed":
        """The numbers of the points at `index` alone (int64 [m] or bool [n])."""
        return Keyed(self.keys[index])

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers in [low, high), float32 [n, *shape]."""
        return low + (high - low) * (self._bits(shape).float() / (1 << 24))

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32 [n, *shape], none beyond 5.5 deviations."""
        return 2**0.5 * torch.erfinv((self._bits(shape).float() + 0.5) / (1 << 23) - 1)

    def _bits(self, shape: Sequence[int]) -> Tensor:
        count = torch.arange(1, 1 + torch.Size(shape).numel(), device=self.keys.device) * _GOLDEN
        return _shifted(_mixed(self.keys[:, None] + count), 40).view(-1, *shape)


class Portion(torch.Generator):
    """A stream of draws for a batch of `of` points, of which one process has those from `first` on.

    `uniform`, `normal` and `per_image` draw for the whole batch and give that process its points' numbers, so that they
    are those of a process that has all points. Whoever draws from it otherwise draws the same on each process.
    """

    def __new__(cls, device: torch.device | str, seed: int, first: int, of: int) -> "Portion":
        return super().__new__(cls, device)  # type: ignore[call-arg]

    def __init__(self, device: torch.device | str, seed: int, first: int, of: int):
        self.first, self.of = first, of
        self.manual_seed(seed)


Noise = torch.Generator | Keyed
"""Where an attack's random numbers come from: one stream for a whole batch, or one for each point."""


def given(noise: Noise | None, x: Tensor) -> Noise:
    """`noise` itself, or without one numbers named by each image's place in the batch `x`: the same every time."""
    return Keyed.of(torch.arange(len(x), device=x.device), 0, "attack") if noise is None else noise


def per_image(noise: Noise, n: int) -> Keyed:
    """Noise of each image's own: `noise` where it is that, else `n` keys drawn on the generator's device."""
    if isinstance(noise, Keyed):
        return noise
    count = noise.of if isinstance(noise, Portion) else n
    keys = torch.randint(-(1 << 63), (1 << 63) - 1, (count,), generator=noise, device=noise.device)
    return Keyed(_own(keys, noise, n))


def fork(noise: Noise, name: int) -> Noise:
    """Numbers for another draw; a generator goes on by itself."""
    return noise.at(name) if isinstance(noise, Keyed) else noise


def uniform(noise: Noise, like: Tensor, low: float, high: float) -> Tensor:
    """Numbers in [low, high) in the shape, dtype and place of `like`, a batch of the noise's points."""
    if isinstance(noise, Keyed):
        return noise.uniform(like.shape[1:], low, high).to(like)
    return _own(_blank(noise, like).uniform_(low, high, generator=noise), noise, len(like))


def normal(noise: Noise, like: Tensor) -> Tensor:
    """Standard normal numbers in the shape, dtype and place of `like`, a batch of the noise's points."""
    if isinstance(noise, Keyed):
        return noise.normal(like.shape[1:]).to(like)
    return _own(_blank(noise, like).normal_(generator=noise), noise, len(like))


def _blank(noise: torch.Generator, like: Tensor) -> Tensor:
    """Room for the draws of the whole batch, laid out in memory as `like`: a stream fills it in that order."""
    if not isinstance(noise, Portion):
        return torch.empty_like(like)
    last = like.ndim == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    shape = (noise.of, *like.shape[1:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def _own(drawn: Tensor, noise: torch.Generator, n: int) -> Tensor:
    return drawn[noise.first : noise.first + n] if isinstance(noise, Portion) else drawn


def _mixed(z: Tensor) -> Tensor:
    # Products wrap at 64 bits, which is what is wanted.
    z = (z ^ _shifted(z, 30)) * _FIRST
    z = (z ^ _shifted(z, 27)) * _SECOND
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, by: int) -> Tensor:
    """The logical shift right; torch's own drags the sign along."""
    return (z >> by) & ((1 << (64 - by)) - 1)
