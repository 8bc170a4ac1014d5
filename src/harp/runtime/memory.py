"""Where each value of a program lies in its thread's memory, the arena.

A value is planes, one a channel; the zeros around their rows are the padding of convolutions. They are written once,
when the arena is made, and never again. So memory that a value no longer needs goes only to one with zeros in the same
places.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from harp.runtime.tiling import ceil_to

CACHE_PAGE = 4096  # planes that lie whole pages apart would fight for the same lines of the first cache


@dataclass
class Planes:
    """How a value's planes are laid out, counted in elements: floats, or vectors of them for a block of images.

    A plane is `height` rows, `pitch` from the start of one to the next, with room for `top` rows of zeros above and
    `bottom` below. `left` zeros precede the first row where rows have gaps at their sides. Layers may write `span`
    elements from the first row on, which ends in zeros where that is more than the rows hold. `at` is where the first
    row lies in the arena, once that is settled; planes with different `tag`s never share a place.
    """

    channels: int
    height: int
    width: int
    pitch: int
    top: int = 0
    bottom: int = 0
    left: int = 0
    span: int = 0
    tag: Hashable = None
    at: int = 0

    def reach(self, above: int, below: int) -> None:
        """Makes room for the rows of zeros that a convolution reads above and below."""
        self.top, self.bottom = max(self.top, above), max(self.bottom, below)

    @property
    def single(self) -> bool:
        """Whether each channel is one number, so that planes follow each other without a gap."""
        return self.height * self.width == 1 and not (self.top or self.bottom or self.left or self.span > 1)

    @property
    def head(self) -> int:
        """Elements before the first row."""
        return 0 if self.single else ceil_to(self.top * self.pitch + self.left, self._unit)

    @property
    def plane(self) -> int:
        """Elements from one channel to the next."""
        if self.single:
            return 1
        rows = max(self.height * self.pitch, self.span) + self.bottom * self.pitch
        size = ceil_to(self.head + rows, self._unit)
        return size + self._unit if size * 4 % CACHE_PAGE == 0 else size

    @property
    def size(self) -> int:
        """Elements of all channels."""
        return self.plane * self.channels

    @property
    def _unit(self) -> int:
        return 16 if self.height * self.pitch > 16 else 4

    def kind(self) -> Hashable:
        """What two values must have in common to lie in the same place: zeros where the other has zeros."""
        return (self.height, self.width, self.pitch, self.head, self.plane, self.tag)


@dataclass
class Arena:
    """Slots of memory, and the values that lie in each one after the other.

    `slots` has the values of each slot, `slot_of` a value's slot by its id, and `unused` the slots that are free, by
    the kind of planes they suit.
    """

    slots: list[list[Planes]] = field(default_factory=list)
    slot_of: dict[int, int] = field(default_factory=dict)
    unused: dict[Hashable, list[int]] = field(default_factory=dict)

    def take(self, planes: Planes) -> None:
        """Gives the planes a place of their own, or one whose last owner is gone."""
        waiting = self.unused.get(planes.kind(), [])
        slot = waiting.pop() if waiting else len(self.slots)
        if slot == len(self.slots):
            self.slots.append([])
        self.slots[slot].append(planes)
        self.slot_of[id(planes)] = slot

    def give(self, planes: Planes) -> None:
        """The planes are not needed any more."""
        self.unused.setdefault(planes.kind(), []).append(self.slot_of[id(planes)])

    def settle(self, slack: int) -> int:
        """Fixes every place; the arena's size in elements, with `slack` before and after for reads that overshoot."""
        end = ceil_to(slack, 16)
        for owners in self.slots:
            for planes in owners:
                planes.at = end + planes.head
            end = ceil_to(end + max(planes.size for planes in owners), 16)
        return end + ceil_to(slack, 16)
