"""From ties between indices to units, the indices that can only go together, and to groups of alike units."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

import torch
from torch import Tensor

from harp.sparsity.groups import Channels, Group, Slice
from harp.sparsity.tracing import Ties

ONE = "its channels are all one unit"
Axis = tuple[str, int]
Unit = dict[Axis, list[int]]  # the indices of one unit on every axis it has a part in
Order = dict[str, int]  # of each tensor, where it comes in definition order


def group(ties: Ties, shapes: Mapping[str, torch.Size]) -> Channels:
    """Groups as the ties suggest them, in definition order, and the reasons of what they exclude.

    `shapes` are those of all named tensors in definition order. Units of one group have equally many indices on the
    same axes: a channel that a sum ties to more of the network than its neighbour belongs to another group.
    """
    order = {name: number for number, name in enumerate(shapes)}
    component = _components(len(ties.numbers), ties.edges).tolist()
    reasons = {component[number]: reason for number, reason in ties.reasons.items()}

    groups: list[Group] = []
    fixed: dict[str, str] = {}
    for reason, units in _alike(_units(ties, component, order), reasons):
        sources = [axis for axis in units[0] if axis in ties.outputs]
        inputs = {axis for axis in units[0] if axis in ties.inputs}
        if not sources:
            continue  # no weight makes these channels
        name = sources[0][0]
        obstacle = reason or _obstacle(units, inputs)
        if obstacle is None:
            in_order = sorted(units, key=lambda unit: unit[sources[0]])
            groups.append(_group(name, in_order, shapes, inputs))
        else:
            fixed.setdefault(name, obstacle)
    for name, axis in sorted(ties.outputs):
        if shapes[name][axis] == 1:  # ties leave out axes of length 1
            fixed.setdefault(name, ONE)
    groups.sort(key=lambda found: order[found.name])
    return Channels(tuple(_distinct(groups)), fixed)


def _units(ties: Ties, component: Sequence[int], order: Order) -> dict[int, Unit]:
    """The unit that each connected component is, its axes in definition order, its indices rising."""
    units: dict[int, Unit] = defaultdict(lambda: defaultdict(list))
    for (name, axis, index), number in sorted(ties.places.items(), key=lambda item: (order[item[0][0]], item[0])):
        units[component[number]][name, axis].append(index)
    return units


def _alike(units: Mapping[int, Unit], reasons: Mapping[int, str]) -> Iterator[tuple[str | None, list[Unit]]]:
    """Units with equally many indices on the same axes and the same reason to stay, with that reason or None."""
    alike: dict[tuple[object, str | None], list[Unit]] = defaultdict(list)
    for number, unit in units.items():
        counts = tuple((axis, len(indices)) for axis, indices in unit.items())
        alike[counts, reasons.get(number)].append(unit)
    for (_, reason), members in alike.items():
        yield reason, members


def _obstacle(units: Sequence[Unit], inputs: Set[Axis]) -> str | None:
    """Why units that no tie keeps are no group all the same, or None."""
    if not inputs:
        return "no weight reads its channels"
    return ONE if len(units) == 1 else None


def _group(name: str, units: Sequence[Unit], shapes: Mapping[str, torch.Size], inputs: Set[Axis]) -> Group:
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
