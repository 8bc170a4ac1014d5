"""What Square tries: a first image for each point, and from the best one so far the next, changed in a square window.

Shares of the image's area that windows take are numbered, and `share` int64 [n] says which one each point is at.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from harp.randomness import Keyed
from harp.threats import Threat, per_point


class Windows(Protocol):
    """The random moves of one threat; every image that comes out is allowed."""

    def first(self, x: Tensor, noise: Keyed) -> Tensor:
        """Where a run of each of `x` [n, c, h, w] begins."""

    def next(self, x: Tensor, best: Tensor, share: Tensor, noise: Keyed) -> Tensor:
        """`best` with one window of each image changed."""


class Stripes:
    """Moves for the inf-norm (Andriushchenko et al., ECCV 2020, section 3.2): every pixel at an end of its range.

    The first image has vertical stripes one pixel wide, a window is one colour; signs are drawn for each channel.
    """

    def __init__(self, threat: Threat, like: Tensor, shares: Sequence[float]):
        self.threat = threat
        self.sides = torch.tensor([max(_side(share, like), 1) for share in shares], device=like.device)

    def first(self, x: Tensor, noise: Keyed) -> Tensor:
        return self._ends(x, noise.uniform((x.shape[1], 1, x.shape[3])))

    def next(self, x: Tensor, best: Tensor, share: Tensor, noise: Keyed) -> Tensor:
        draws = noise.uniform((2 + x.shape[1],))
        side = self.sides[share]
        inside = _inside(_offsets(x, draws[:, :2], side), side)
        return torch.where(inside, self._ends(x, draws[:, 2:, None, None]), best)

    def _ends(self, x: Tensor, draws: Tensor) -> Tensor:
        return (x + self.threat.eps * _signs(draws, x)).clamp(self.threat.low, self.threat.high)


class Bumps:
    """Moves for the 2-norm (Andriushchenko et al., ECCV 2020, section 3.3) and the 1-norm (Croce & Hein, ICML 2021).

    A bump is a square whose two halves rise to peaks of opposite signs; the first image is tiled with them, a fifth of
    the shorter side each. A move empties one window and gives what was there, and what of eps was not yet spent, to
    another, in the shape of a bump added to what that one held.
    """

    def __init__(self, threat: Threat, like: Tensor, shares: Sequence[float]):
        # As theirs: the sum of thousands of pixels comes out of float32 no more exactly than this.
        self.threat = replace(threat, eps=threat.eps * (1 - 1e-6)) if threat.norm == 1 else threat
        sides = [min(_odd(max(_side(share, like), 3)), *like.shape[2:]) for share in shares]
        self.sides = torch.tensor(sides, device=like.device)
        self.tile = _bump(max(1, min(like.shape[2:]) // 5), threat.norm).to(like)
        # One bump a share, upright and turned, in the corner of a square of zeros with zeros all around.
        self.width = max(sides) + 2
        upright = torch.stack([pad(_bump(s, threat.norm), (1, self.width - s - 1) * 2) for s in sides])
        self.table = torch.stack([upright, upright.mT], 1).to(like)

    def first(self, x: Tensor, noise: Keyed) -> Tensor:
        (channels, height, width), side = x.shape[1:], len(self.tile)
        down, across = height // side, width // side
        draws = noise.uniform((channels + 1, down, across))
        shapes = torch.stack([self.tile, self.tile.T])[(draws[:, :1] < 0.5).long()]  # [n, 1, down, across, side, side]
        tiles = _signs(draws[:, 1:, :, :, None, None], x) * shapes
        delta = tiles.transpose(3, 4).reshape(-1, channels, down * side, across * side)
        top, left = (height - down * side) // 2, (width - across * side) // 2
        bottom, right = height - down * side - top, width - across * side - left
        return self._allowed(x, pad(delta, (left, right, top, bottom)))

    def next(self, x: Tensor, best: Tensor, share: Tensor, noise: Keyed) -> Tensor:
        draws, delta = noise.uniform((5 + x.shape[1],)), best - x
        side = self.sides[share]
        to = _offsets(x, draws[:, :2], side)
        inside = _inside(to, side)
        both = (inside | _inside(_offsets(x, draws[:, 2:4], side), side)).to(x)
        kept = delta * inside
        bump = self._bumps(to, share, draws[:, 4] < 0.5) * _signs(draws[:, 5:, None, None], x)
        moved = bump + kept / (self._size(kept) + 1e-12)
        moved = moved * (self._due(delta, both) / (self._size(moved) + 1e-12))
        return self._allowed(x, delta * (1 - both) + moved)

    def _size(self, delta: Tensor) -> Tensor:
        """The norm of each channel, [n, c, 1, 1]."""
        size: Tensor = torch.linalg.vector_norm(delta, ord=self.threat.norm, dim=(2, 3), keepdim=True)
        return size

    def _due(self, delta: Tensor, both: Tensor) -> Tensor:
        """The norm that each channel of the window is given, [n, c, 1, 1]."""
        norm, channels = self.threat.norm, delta.shape[1]
        whole = per_point(torch.linalg.vector_norm(delta.flatten(1), ord=norm, dim=1), delta)
        unspent = (self.threat.eps**norm - whole**norm).clamp(min=0) / channels
        due: Tensor = (unspent + self._size(delta * both) ** norm) ** (1 / norm)
        # As its authors have it; what is too much, the projection takes away.
        return due * channels if norm == 1 else due

    def _bumps(self, offsets: tuple[Tensor, Tensor], share: Tensor, turned: Tensor) -> Tensor:
        """A bump in each window, zero elsewhere, [n, 1, h, w]."""
        rows, columns = (offset.clamp(-1, self.width - 2) + 1 for offset in offsets)
        rows = rows + self.width * (2 * share + turned)[:, None, None]
        return self.table.take(self.width * rows + columns)[:, None]

    def _allowed(self, x: Tensor, delta: Tensor) -> Tensor:
        """The images at `delta` from `x`: stretched to eps for the 2-norm, brought into ball and box for the 1-norm."""
        if self.threat.norm == 1:
            # Sums over thousands of pixels leave the projection some 1e-5 outside, and the images' own rounding more.
            delta = self.threat.project(x + delta, x) - x
            delta = delta * self._scale(x, delta).clamp(max=1)
            adv = x + delta
            return torch.where((adv - x).abs() > delta.abs(), adv.nextafter(x), adv)
        return (x + delta * self._scale(x, delta)).clamp(self.threat.low, self.threat.high)

    def _scale(self, x: Tensor, delta: Tensor) -> Tensor:
        """What takes `delta` to the ball's surface, [n, 1, 1, 1]."""
        size = torch.linalg.vector_norm(delta.flatten(1), ord=self.threat.norm, dim=1)
        return per_point(self.threat.eps / (size + 1e-12), x)


def _side(share: float, like: Tensor) -> int:
    """The side of a window of this share of the area, no longer than the shorter side."""
    height, width = like.shape[2:]
    return min(round(math.sqrt(share * height * width)), height, width)


def _odd(side: int) -> int:
    return side + 1 - side % 2


def _signs(draws: Tensor, like: Tensor) -> Tensor:
    return 2 * (draws < 0.5).to(like) - 1


def _offsets(x: Tensor, draws: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
    """How far each row [n, h, 1] and column [n, 1, w] lies behind a window's first; each place is equally likely."""
    height, width = x.shape[2:]
    top, left = ((draws[:, axis] * (length - side + 1)).long() for axis, length in enumerate((height, width)))
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    return (rows - top[:, None])[:, :, None], (columns - left[:, None])[:, None]


def _inside(offsets: tuple[Tensor, Tensor], side: Tensor) -> Tensor:
    """Which pixels lie in the window, bool [n, 1, h, w]."""
    rows, columns = ((offset >= 0) & (offset < side[:, None, None]) for offset in offsets)
    return (rows & columns)[:, None]


def _bump(side: int, norm: float) -> Tensor:
    """A square of norm 1: its upper half positive, its lower half negative, each falling from its middle in rings."""
    upper, lower = _peak(side // 2, side, norm), _peak(side - side // 2, side, norm)
    return _unit(torch.cat([upper, -lower]), norm)


def _peak(height: int, width: int, norm: float) -> Tensor:
    """A rectangle of norm 1 whose entry at ring r around its middle is the sum of 1/k^2 (1-norm: 1/k^4) over k > r."""
    rows, columns = ((torch.arange(length) - length // 2).abs() for length in (height, width))
    ring = torch.maximum(rows[:, None], columns)
    terms = torch.arange(1.0, max(height, width) // 2 + 2) ** (-4 if norm == 1 else -2)
    return _unit(terms.flip(0).cumsum(0).flip(0)[ring], norm)


def _unit(values: Tensor, norm: float) -> Tensor:
    size: Tensor = torch.linalg.vector_norm(values, ord=norm)
    return values / size
