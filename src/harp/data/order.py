"""A random order of any number of images, of which any place can be asked without making the rest."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.randomness import Keyed

# Luby and Rackoff (1988) prove four rounds of random functions indistinguishable from a random permutation, but for
# large halves; two more are for small ones.
ROUNDS = 6


@dataclass(frozen=True)
class Permutation:
    """A bijection of 0 .. n - 1, called with places (int64 of any shape, in that range) for indices of that shape.

    It depends on `n`, `seed` and `names` and on nothing else, and holds nothing: each place is computed by itself, the
    same on every device. A number is two digits to the base of the root of n, rounded up; a Feistel network adds to
    one digit a random function of the other, by turns, modulo the base. What lands at n or beyond goes through it
    again until it lands below (Black and Rogaway, 2002): for large n one in root n / 2 does. Raises `HarpError` for n
    below 1.
    """

    n: int
    seed: int
    names: tuple[str | int, ...]

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarpError(f"an order of {self.n} images; expected at least 1")

    def __call__(self, places: Tensor) -> Tensor:
        found = self._shuffled(places)
        while (beyond := found >= self.n).any():
            found = torch.where(beyond, self._shuffled(found), found)
        return found

    def _shuffled(self, numbers: Tensor) -> Tensor:
        base = math.isqrt(self.n - 1) + 1
        high, low = numbers // base, numbers % base
        for turn in range(ROUNDS):
            # Keys have 64 bits, so what a remainder prefers is beyond noticing.
            mixed = Keyed.of(low, self.seed, *self.names, turn).keys % base
            high, low = low, (high + mixed) % base
        return high * base + low
