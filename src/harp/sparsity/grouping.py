"""From ties between indices to units, the indices that can only go together, and to groups of alike units."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from harp.sparsity.groups import Channels, Group, Slice
from harp.sparsity.tracing import Ties

ONE = "its channels are all one unit"
Axis = tuple[str, int]
Unit = dict[Axis, list[int]]  # the indices of one unit on every axis it has a part in


def group(ties: Ties, shapes: Mapping[str, torch.Size]) -> Channels:
    """Groups as the ties suggest them, in definition order, and the reasons of what they exclude.

    `shapes` are those of all named tensors in definition order. Units of one group have equally many indices on the
    same axes: a channel that a sum ties to more of the network than its neighbour belongs to another group.
    """
    order = {name: number for number, name in enumerate(shapes)}
    labels = _components(len(ties.numbers), ties.edges).tolist()
    reasons = {labels[number]: reason for number, reason in ties.reasons.items()}
    units: dict[int, Unit] = defaultdict(lambda: defaultdict(list))
    for (name, axis, index), number in sorted(ties.places.items(), key=lambda item: (order[item[0][0]], item[0])):
        units[labels[number]][name, axis].append(index)
    alike: dict[tuple[object, ...], list[Unit]] = defaultdict(list)
    for label, unit in units.items():
        counts = tuple((axis, len(indices)) for axis, indices in unit.items())
        alike[counts, reasons.get(label)].append(unit)

    groups: list[Group] = []
    fixed: dict[str, str] = {}
    for (_, reason), members in alike.items():
        sources = [axis for axis in members[0] if axis in ties.outputs]
        if not sources:
            continue
        members.sort(key=lambda unit: unit[sources[0]])
        name, inputs = sources[0][0], [axis for axis in members[0] if axis in ties.inputs]
        if reason is None and not inputs:
            reason = "no weight reads its channels"
        if reason is None and len(members) == 1:
            reason = ONE
        if reason is None:
            groups.append(_group(name, members, shapes, set(inputs)))
        else:
            fixed.setdefault(name, str(reason))
    for name, axis in ties.outputs:
        if shapes[name][axis] == 1:
            fixed.setdefault(name, ONE)
    groups.sort(key=lambda found: order[found.name])
    return Channels(tuple(_distinct(groups)), fixed)


def _group(name: str, units: Sequence[Unit], shapes: Mapping[str, torch.Size], inputs: set[Axis]) -> Group:
    members = tuple(_slice(axis, units, shapes) for axis in units[0])
    return Group(name, len(units), members, tuple(part for part in members if (part.name, part.axis) in inputs))


def _slice(axis: Axis, units: Sequence[Unit], shapes: Mapping[str, torch.Size]) -> Slice:
    owner = torch.full((shapes[axis[0]][axis[1]],), -1, dtype=torch.int64)
    indices = torch.tensor([unit[axis] for unit in units])
    owner[indices] = torch.arange(len(units))[:, None]
    return Slice(*axis, owner)


def _distinct(groups: Sequence[Group]) -> Iterator[Group]:
    seen: dict[str, int] = {}
    for found in groups:
        count = seen[found.name] = seen.get(found.name, 0) + 1
        yield found if count == 1 else replace(found, name=f"{found.name}#{count}")


def _components(size: int, edges: Sequence[tuple[int, int]]) -> Tensor:
    """The lowest number each of `size` numbers is connected to: int64 [size]."""
    labels = torch.arange(size)
    if not edges:
        return labels
    first, second = torch.tensor(edges).unbind(1)
    while True:
        lowest = torch.minimum(labels[first], labels[second])
        new = labels.scatter_reduce(0, first, lowest, "amin").scatter_reduce(0, second, lowest, "amin")
        # A label is itself a number of the component, so that its label may be taken: paths halve.
        new = new[new]
        if torch.equal(new, labels):
            return labels
        labels = new
