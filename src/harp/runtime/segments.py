"""A graph cut into what the engine runs and what PyTorch runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harp.graph import Array, ArrayGraph, Node, Ref, SparseArray
from harp.runtime.layers import Layer
from harp.runtime.lowering import Lowering
from harp.runtime.values import Spec

SIZES = {"sym_size.int", "int_add", "int_sub", "int_mul", "int_floordiv", "int_mod", "int_neg"}
# A matrix product denser and larger than this is PyTorch's: the engine would read twice the bytes.
DENSE, LARGE = 0.4, 2**16


@dataclass
class Segment:
    """Layers that the engine runs in one go, from dense values `inputs` to dense values `outputs`."""

    layers: list[Layer] = field(default_factory=list)
    specs: dict[str, Spec] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)  # of each value and alias, as `Lowering.lower` asks for them
    made: set[str] = field(default_factory=set)  # by its layers

    def base(self, name: str) -> str:
        """The value whose planes hold this one."""
        return self.aliases.get(name, name)

    def holds(self, name: str) -> bool:
        """Whether the value is made here."""
        return name in self.aliases or name in self.made

    def plain(self) -> list[Node]:
        """The nodes that its outputs depend on, for PyTorch to run instead."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(node.refs())
                kept.append(node)
        return kept[::-1]

    def hold(self, name: str, spec: Spec) -> None:
        """The value is one of the segment's from now on."""
        self.specs[name], self.forms[name] = spec, spec.form


def cut(graph: ArrayGraph, lowering: Lowering) -> list[Segment | Node]:
    """The graph as segments and single nodes, in an order that can be run; what nobody needs is left out."""
    items: list[Segment | Node] = []
    current = Segment()
    for node in graph.nodes:
        if node.op in SIZES and all(isinstance(a, Ref | int) for a in node.args):
            items.append(_of_input(node, graph, lowering))
        elif not _take(current, node, lowering):
            items += _closed(current, lowering)
            current = Segment()
            if not _take(current, node, lowering):
                items.append(node)
                current = Segment()
    items += _closed(current, lowering)
    return _needed(items, graph)


def _of_input(node: Node, graph: ArrayGraph, lowering: Lowering) -> Node:
    """The number of images can be asked of the graph's input as well, which is always there."""
    shape = lowering.shapes.get(node.args[0].name) if isinstance(node.args[0], Ref) else None
    if node.op == "sym_size.int" and node.args[1] == 0 and shape and graph.batch is None and shape[0] == lowering.batch:
        return Node(node.name, node.op, (Ref(graph.input), 0))
    return node


def _take(segment: Segment, node: Node, lowering: Lowering) -> bool:
    """Whether the node found its place in the segment."""
    source = lowering.flattened(node)
    if source is not None:
        if not segment.holds(source) and not _enters(segment, source, lowering):
            return False
        segment.aliases[node.name] = segment.base(source)
        segment.forms[node.name] = "vector"
        segment.nodes.append(node)
        return True
    lowered = lowering.lower(node, segment.forms)
    if lowered is None:
        return False
    layer, wanted = lowered
    if layer.weight and not lowering.alone and not _worth(layer, lowering.constants[layer.weight]):
        return False
    specs = {name: lowering.spec(name, form) for name, form in wanted.items()}
    if not all(_fits(segment, layer, name, specs[name]) for name in layer.inputs):
        return False
    for name in layer.inputs:
        if segment.base(name) not in segment.specs:
            segment.inputs.append(name)
            segment.hold(name, specs[name])  # type: ignore[arg-type]
    segment.hold(layer.name, specs[layer.name])  # type: ignore[arg-type]
    segment.layers.append(layer)
    segment.made.add(layer.name)
    segment.nodes.append(node)
    return True


def _enters(segment: Segment, name: str, lowering: Lowering) -> bool:
    """Whether the value is the graph's images, which a network without convolutions flattens first; then it is held."""
    spec = lowering.spec(name, "map")
    if name != lowering.graph.input or spec is None:
        return False
    if name not in segment.specs:
        segment.inputs.append(name)
        segment.hold(name, spec)
    return segment.specs[name] == spec


def _fits(segment: Segment, layer: Layer, name: str, wanted: Spec | None) -> bool:
    held = segment.specs.get(segment.base(name))
    if held is None or held == wanted or wanted is None:
        return held is None or held == wanted
    # A linear layer reads a map as the vector it is; so does everything where a channel is one number. Tokens are no
    # such vector: there channels lie innermost.
    flat = layer.kind == "linear" and held.form == "map"
    return wanted.form == "vector" and (flat or held.shape == wanted.shape)


def _worth(layer: Layer, weight: Array | SparseArray) -> bool:
    dims = tuple(weight.shape)
    size = math.prod(dims)
    matrix = layer.window.kernel == (1, 1) and len(dims) == 2
    return not matrix or size <= LARGE or density(weight) <= DENSE


def density(weight: Array | SparseArray) -> float:
    """The share of non-zeros, 0 for an empty tensor."""
    size = max(1, math.prod(weight.shape))
    return (len(weight.values) if isinstance(weight, SparseArray) else int(np.count_nonzero(weight))) / size


def _closed(segment: Segment, lowering: Lowering) -> Sequence[Segment | Node]:
    """The segment, or its nodes where it has no weights and handing values over would cost more than it saves."""
    worth = lowering.alone or any(layer.weight for layer in segment.layers)
    return [segment] if worth and segment.nodes else segment.nodes


def _needed(items: list[Segment | Node], graph: ArrayGraph) -> list[Segment | Node]:
    needed = {graph.output}
    kept: list[Segment | Node] = []
    for item in reversed(items):
        if isinstance(item, Node):
            if item.name in needed:
                needed.update(item.refs())
                kept.append(item)
            continue
        made = [*(layer.name for layer in item.layers), *item.aliases]
        item.outputs = [name for name in made if name in needed]
        if item.outputs:
            _prune(item)
            needed.update(item.inputs)
            kept.append(item)
    return kept[::-1]


def _prune(segment: Segment) -> None:
    """Without the layers that no output depends on."""
    needed = {segment.base(name) for name in segment.outputs}
    for layer in reversed(segment.layers):
        if layer.name in needed:
            needed |= {segment.base(name) for name in layer.inputs}
    segment.layers = [layer for layer in segment.layers if layer.name in needed]
    segment.inputs = [name for name in segment.inputs if name in needed]


def fused(segment: Segment) -> list[Layer]:
    """The segment's layers with additions and activations made part of the layers before them, aliases resolved."""
    base = segment.base
    layers = [_renamed(layer, segment) for layer in segment.layers]
    readers: dict[str, int] = {}
    for name in [name for layer in layers for name in layer.inputs] + [base(name) for name in segment.outputs]:
        readers[name] = readers.get(name, 0) + 1
    done: dict[str, int] = {}  # where the layer that makes a value stands
    out: list[Layer] = []
    for layer in layers:
        hosts = sorted((done[name] for name in layer.inputs if name in done and readers[name] == 1), reverse=True)
        host = next((place for place in hosts if _joins(out[place], layer, place, done)), None)
        if host is None:
            done[layer.name] = len(out)
            out.append(layer)
        else:
            out[host] = out[host].plus(layer) if layer.kind == "add" else out[host].then(layer)
            done[layer.name] = host
    return out


def _renamed(layer: Layer, segment: Segment) -> Layer:
    return replace(layer, inputs=tuple(segment.base(name) for name in layer.inputs))


def _joins(host: Layer, layer: Layer, place: int, done: dict[str, int]) -> bool:
    if host.act.name != "none":
        return False
    if layer.kind == "activate":
        return True
    if layer.kind != "add" or host.kind not in ("conv", "linear") or len(host.inputs) > 1:
        return False
    other = next((name for name in layer.inputs if name != host.name), host.name)
    # What is added has to be there when the host runs.
    return other != host.name and done.get(other, -1) < place
