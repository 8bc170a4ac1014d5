"""Batch norms folded into the layers before them, and what is computed of weights alone computed once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harp.export.rewriting import bias_name, renamed
from harp.graph import Graph, Node, Ref, Sparse, shapes
from harp.graph.interpret import carry_out, steps
from harp.graph.operators import operator

# Layers with as many channels as their output has along axis 1, by the axis of the weight that holds those channels.
_LAYERS = {"conv1d": 0, "conv2d": 0, "conv3d": 0, "linear": 0, "conv_transpose2d.input": 1}


def fold(graph: Graph) -> Graph:
    """The same network with fewer steps: what is computed of tensors alone is a tensor, batch norms are in the weights.

    A batch norm goes into the convolution or linear layer before it where nobody else reads that layer's output:
    weight * s and (bias - mean) * s + shift with s = scale / sqrt(var + eps), computed in float64 and rounded once to
    the weight's dtype; zeros stay zeros. Weights keep their names, a bias that was not there is called after its
    weight. Batch norms that stand elsewhere stay.
    """
    graph = _precomputed(graph)
    known, readers = shapes(graph), graph.readers()
    makers = {node.name: node for node in graph.nodes}
    tensors, layers, gone = dict(graph.tensors), {}, {}
    for norm in graph.nodes:
        layer = makers.get(norm.args[0].name) if norm.op == "batch_norm" else None
        if layer is not None and _fits(graph, layer, norm, known, readers):
            layers[layer.name] = _merged(graph, layer, norm, readers, tensors)
            gone[norm.name] = layer.name
    nodes = tuple(renamed(layers.get(n.name, n), gone) for n in graph.nodes if n.name not in gone)
    output = gone.get(graph.output, graph.output)
    return replace(graph, nodes=nodes, output=output, tensors=tensors).pruned()


def _precomputed(graph: Graph) -> Graph:
    """Nodes that read tensors alone as tensors of their own: weights made of weights, positions looked up in tables."""
    known = set(graph.tensors)
    for node in graph.nodes:
        if node.refs() and known.issuperset(node.refs()) and operator(node.op).kind != "int":
            known.add(node.name)
    ready = replace(graph, nodes=tuple(node for node in graph.nodes if node.name in known))
    rest = tuple(node for node in graph.nodes if node.name not in known)
    read = {name for node in rest for name in node.refs()}
    values: dict[str, Any] = {
        name: graph.tensor(name) for node in ready.nodes for name in node.refs() if name in graph.tensors
    }
    tensors = dict(graph.tensors)
    for step in steps(ready, torch.device("cpu")):
        values[step.name] = carry_out(step, dict(values))
        if step.name in read:
            tensors[step.name] = values[step.name].detach().clone(memory_format=torch.contiguous_format)
    return replace(graph, nodes=rest, tensors=tensors).pruned()


def _fits(
    graph: Graph, layer: Node, norm: Node, known: Mapping[str, tuple[int, ...]], readers: Mapping[str, list[Node]]
) -> bool:
    constant = all(isinstance(v, Ref | None) and (v is None or v.name in graph.tensors) for v in layer.args[1:3])
    alone = readers[layer.name] == [norm] and graph.output != layer.name and norm.refs().count(layer.name) == 1
    # The channels of a batch norm lie along axis 1, those of a linear layer along the last.
    along = layer.op != "linear" or len(known[layer.name]) == 2
    grouped = layer.op == "conv_transpose2d.input" and layer.args[6] != 1
    statistics = all(v is None or v.name in graph.tensors for v in norm.args[1:5]) and None not in norm.args[3:5]
    return layer.op in _LAYERS and constant and alone and along and not grouped and statistics


def _merged(
    graph: Graph, layer: Node, norm: Node, readers: Mapping[str, list[Node]], tensors: dict[str, Tensor | Sparse]
) -> Node:
    scale, shift = _affine(graph, norm)
    weight = graph.tensor(layer.args[1].name)
    wide = [1] * weight.ndim
    wide[_LAYERS[layer.op]] = -1
    bias = torch.zeros_like(shift) if layer.args[2] is None else graph.tensor(layer.args[2].name).double()
    # Zero times a negative scale is a zero of another sign, which a sparse tensor would have to store.
    folded = torch.where(weight == 0, 0.0, weight.double() * scale.view(wide))
    names = _names(graph, layer, readers)
    sparse = isinstance(graph.tensors[layer.args[1].name], Sparse)
    tensors[names[0]] = Sparse.of(folded.to(weight.dtype)) if sparse else folded.to(weight.dtype)
    tensors[names[1]] = (bias * scale + shift).to(weight.dtype)
    return replace(layer, args=(layer.args[0], Ref(names[0]), Ref(names[1]), *layer.args[3:]))


def _affine(graph: Graph, norm: Node) -> tuple[Tensor, Tensor]:
    """Scale and shift [channels] of a batch norm, in float64."""
    mean, var = (graph.tensor(value.name).double() for value in norm.args[3:5])
    scale, shift = (None if value is None else graph.tensor(value.name).double() for value in norm.args[1:3])
    factor = (var + norm.args[7]).rsqrt() * (1 if scale is None else scale)
    return factor, (0 if shift is None else shift) - mean * factor


def _names(graph: Graph, layer: Node, readers: Mapping[str, list[Node]]) -> tuple[str, str]:
    """What weight and bias are called: as before, unless others read them or there was none."""
    weight, bias = layer.args[1].name, layer.args[2]
    own = weight if len(readers[weight]) == 1 else f"{layer.name}.weight"
    if bias is not None and len(readers[bias.name]) == 1:
        return own, bias.name
    return own, bias_name(own, layer, readers)
