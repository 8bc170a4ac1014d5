"""What is known of a graph's channels while it is shrunk."""

from dataclasses import dataclass

import numpy
import torch
from torch import Tensor

from harp.graph import Graph, Node, Ref, Sparse, dtype, shapes


@dataclass(frozen=True)
class Channels:
    """The channels of a value, which lie along `axis`.

    `slots` int64 [C] are their places: channels of several values in one place, or in places that are tied, stay or go
    together. `constant` bool [C] tells those that are the same number at every position of every image, and `value`
    float64 [C] that number, 0 for the others.
    """

    axis: int
    slots: Tensor
    constant: Tensor
    value: Tensor

    @property
    def count(self) -> int:
        return len(self.slots)


class State:
    """Channels by value, filled by the rules; `live` tells, by value, which channels somebody reads."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.shapes = shapes(graph)
        self.readers = graph.readers()
        self.channels: dict[str, Channels] = {}
        self.live: dict[str, Tensor] = {}
        self.tensors: dict[str, Tensor | Sparse] = dict(graph.tensors)
        self.origin: dict[str, str] = {}  # of a tensor that takes another's place for one reader, that other
        self.instead: dict[str, str] = {}  # values that another takes the place of
        self.choosing = False  # whether carriers are being chosen; what stays without them is known then
        self._count = 0
        self._ties: list[tuple[Tensor, Tensor]] = []
        self._pinned: list[Tensor] = []
        self._kept = torch.zeros(0, dtype=torch.bool)

    def track(self, name: str, axis: int, constant: Tensor, value: Tensor) -> None:
        """A value with channels in places of their own."""
        slots = torch.arange(self._count, self._count + len(constant))
        self._count += len(constant)
        self.channels[name] = Channels(axis, slots, constant, torch.where(constant, value.double(), 0.0))

    def follow(self, name: str, inner: Channels, axis: int, constant: Tensor, value: Tensor) -> None:
        """A value with channels in the places of another's."""
        self.channels[name] = Channels(axis, inner.slots, constant, torch.where(constant, value.double(), 0.0))

    def tie(self, first: Tensor, second: Tensor) -> None:
        self._ties.append((first, second))

    def pin(self, name: str) -> None:
        """No channel of the value can go."""
        if name in self.channels:
            self._pinned.append(self.channels[name].slots)

    def forget(self) -> None:
        """Nothing is read but the logits."""
        self.live = {name: torch.zeros(found.count, dtype=torch.bool) for name, found in self.channels.items()}
        self.need(self.graph.output)

    def need(self, name: str, which: Tensor | None = None) -> None:
        """Somebody reads these channels of the value, or all of it."""
        before = self.live.get(name, torch.zeros(1, dtype=torch.bool))
        self.live[name] = torch.ones_like(before) if which is None else before | which

    def reads(self, name: str) -> Tensor:
        """Which channels of a value are read; of a value without channels, whether it is: bool [1]."""
        return self.live.get(name, torch.zeros(1, dtype=torch.bool))

    def decide(self) -> None:
        """Places stay that hold a channel somebody reads, or that are pinned; and what is tied to them."""
        needed = torch.zeros(self._count, dtype=torch.bool)
        for name, found in self.channels.items():
            needed[found.slots[self.live[name]]] = True
        for slots in self._pinned:
            needed[slots] = True
        groups = self._groups()
        kept = torch.zeros(self._count, dtype=torch.bool)
        kept[groups[needed]] = True
        self._kept = kept[groups]

    def _groups(self) -> Tensor:
        """Of each place, the number of the group of places it is tied to."""
        first, second = (numpy.concatenate([numpy.zeros(0, int), *(t[i].numpy() for t in self._ties)]) for i in (0, 1))
        # Imported late: SciPy takes half a second, which nobody should wait for who only loads a package.
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        edges = coo_matrix((numpy.ones(len(first), bool), (first, second)), shape=(self._count, self._count))
        return torch.from_numpy(connected_components(edges, directed=False)[1].astype(numpy.int64))

    def keep(self, name: str) -> None:
        """The first channel of the value stays, since a layer cannot read none."""
        groups = self._groups()
        self._kept |= groups == groups[self.channels[name].slots[0]]

    def kept(self, name: str) -> Tensor:
        """Which channels of the value stay, bool [C]; none does before `decide`."""
        slots = self.channels[name].slots
        return self._kept[slots] if len(self._kept) else torch.zeros(len(slots), dtype=torch.bool)

    def constant(self, name: str) -> bool:
        """Whether a tensor, which is known before any image is."""
        return name in self.graph.tensors

    def double(self, name: str) -> Tensor:
        return self.graph.tensor(name).double()

    def store(self, node: Node, name: str, tensor: Tensor) -> Ref:
        """A tensor in place of `name` for this reader, rounded to its dtype; of several readers each gets its own."""
        old = self.graph.tensor(name)
        new = tensor.to(old.dtype)
        if new.shape == old.shape and torch.equal(new, old):
            return Ref(name)
        free = name if len(self.readers[name]) == 1 else f"{node.name}.{name.rpartition('.')[2]}"
        self.origin[free] = name
        self.tensors[free] = Sparse.of(new) if isinstance(self.graph.tensors[name], Sparse) else new
        return Ref(free)

    def table(self, name: str, tensor: Tensor) -> Ref:
        """A tensor that was not there."""
        self.tensors[name] = tensor.to(dtype(self.graph))
        return Ref(name)
