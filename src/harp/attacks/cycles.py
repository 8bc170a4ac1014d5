"""Ascents by fixed steps of the gradient's sign, ended for an image where it begins to repeat itself.

From one iterate the network and the step make the next, and nothing else does: an image that comes back, bit for bit,
to where it was goes round from there, and where it will be after the last step is known. That needs a network whose
answers about an image depend on that image alone, by the same arithmetic each time. None is trusted: before an image
leaves the batch the network is asked about the others once more, without it, and only if logits and gradients are the
same bits does it leave. Sums in another order, as other kernels for smaller batches take them, would show in some of
these thousands of numbers; so would noise, and answers that depend on the company.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from harp.randomness import global_draws
from harp.threats import per_point

Asked = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images [m, ...] and their places (int64 [m]) among all -> their logits, and the gradients at them."""
Moved = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Images, gradients and places as above -> the images one step on, each entry from its own numbers alone."""

# Of images that repeat themselves at all nearly all do with period 2 or 4.
WINDOW = 8
# The batch is made smaller when no more than this share of it is under way: each time costs a step of what is left.
CROWDED = 2 / 3
# Below, hardly an image repeats itself in time to save a step.
LEAST = 30


def repeatable(device: torch.device) -> bool:
    """Whether kernels there promise the same bits each time."""
    return device.type == "cpu" or torch.are_deterministic_algorithms_enabled()


def settled(asked: Asked, moved: Moved, start: Tensor, steps: int) -> Tensor:
    """What `steps` steps lead to from each image of `start`, like it: what `moved` would give were all of them made."""
    places = torch.arange(len(start), device=start.device)
    way = _Way(places, start, (), torch.zeros_like(places, dtype=torch.bool))
    result, refused = start.clone(), len(start) + 1
    for step in range(steps):
        logits, grad = asked(way.at, way.places)
        left = (~way.ended).nonzero().squeeze(1)
        if len(left) <= CROWDED * min(len(way.places), refused):
            if not _the_same(asked, way, left, logits, grad, start):
                refused = len(left)
            elif not len(left):
                return result
            else:
                way, grad, refused = way.take(left), grad[left], len(start) + 1
        way = replace(way, at=moved(way.at, grad, way.places), before=(*way.before, way.at)[-WINDOW:])
        way = way.looked_back(result, steps - step - 1)
    # Also of those that came back: nobody could make sure that nothing but themselves decides where they go.
    result[way.places] = way.at
    return result


@dataclass(frozen=True)
class _Way:
    """The images of the batch: their `places` among all, where they are `at`, where they were `before`, latest last.

    `ended` bool [m]: the image has been where it is before, and the result has what that leads to, once it may leave.
    """

    places: Tensor
    at: Tensor
    before: tuple[Tensor, ...]
    ended: Tensor

    def take(self, rows: Tensor) -> "_Way":
        return _Way(self.places[rows], self.at[rows], tuple(image[rows] for image in self.before), self.ended[rows])

    def looked_back(self, result: Tensor, steps: int) -> "_Way":
        """The same, where `result` has what images that are where they were come to in another `steps` steps."""
        ended = self.ended
        for ago in range(1, len(self.before) + 1):
            again = ~ended & _equal(self.at, self.before[-ago])
            if again.any():
                onward = steps % ago
                last = self.before[onward - ago] if onward else self.at
                result[self.places[again]] = last[again]
                ended = ended | again
        return replace(self, ended=ended)


def _equal(some: Tensor, others: Tensor) -> Tensor:
    """Which images are the same bits, bool [m]; a zero is not its negative."""
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[some.element_size()]
    equal: Tensor = (some.view(bits) == others.view(bits)).flatten(1).all(1)
    return equal


def _the_same(asked: Asked, way: _Way, left: Tensor, logits: Tensor, grad: Tensor, start: Tensor) -> bool:
    """Whether the network says the same of the images `left`, bit for bit, without the others.

    Of none left: whether it does of every second one, while the others are where they began. What that draws from
    global generators is nobody else's.
    """
    with global_draws(start.device, 0, "cycles"):
        if len(left):
            alone = asked(way.at[left], way.places[left])
        else:
            odd = torch.arange(len(way.places), device=start.device) % 2 == 1
            alone = asked(torch.where(per_point(odd, start), start[way.places], way.at), way.places)
            left = (~odd).nonzero().squeeze(1)
            alone = alone[0][left], alone[1][left]
    return bool(_equal(alone[0], logits[left]).all() and _equal(alone[1], grad[left]).all())
