"""What does nothing in a pruned network, removed exactly: filters without weights, channels nobody reads, constants."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from harp.export.channels import Filters, Rule, State, rule
from harp.export.rewriting import renamed
from harp.export.weights import layer_weights
from harp.graph import Graph, Node, Ref, dtype, run


@dataclass(frozen=True)
class Shrunk:
    """A graph and what was removed from it.

    `nominal` and `effective` are the non-zeros of each weight of a convolution or linear layer, before and after, by
    the weight's name in the graph before. `removed` tells how many of its filters are gone, `constants` how many
    constant channels went into a bias or into another that carries them. `collapsed` networks give the same logits for
    every image; the graph then holds nothing but these. `origin` has the former name of each tensor with a new one.
    """

    graph: Graph
    nominal: dict[str, int]
    effective: dict[str, int]
    removed: dict[str, int]
    constants: int
    collapsed: bool
    origin: Mapping[str, str] = field(default_factory=dict)


def shrink(graph: Graph) -> Shrunk:
    """The same function, smaller: exact but for the order of sums, 1e-12 relative in float64.

    A filter without weights makes a constant. One of 0 goes; others go into the bias of a layer that reads them
    without zero padding. Under padding constants differ from the border's zeros: one of them then carries all, its
    kernel the sum of theirs, each times its constant over the carrier's. Channels nobody reads go with their filters,
    and whatever only these read. Activations, pools, sums, gates, concatenations and reshapes pass channels one by
    one; a channel of a sum goes where all that is summed can; other operators read every channel where it is. What is
    computed anew is computed in float64 and rounded once to the tensor's dtype.

    Expects batch norms to be folded (`fold`): one that stays is a function of each channel.
    """
    state = State(graph)
    state.track(graph.input, 1, torch.zeros(graph.shape[0], dtype=torch.bool), torch.zeros(graph.shape[0]))
    state.pin(graph.input)
    rules = _rules(graph, state)
    _decide(rules, state)
    nominal = _nonzeros(graph)
    if not state.reads(graph.input).any():
        empty = dict.fromkeys(nominal, 0)
        return Shrunk(_constant(graph), nominal, empty, _removed(graph, None, state), 0, True)
    small = _rewritten(graph, rules, state)
    effective = dict.fromkeys(nominal, 0)
    for name, count in _nonzeros(small).items():
        effective[state.origin.get(name, name)] += count
    folded = sum(found.folded for found in rules if isinstance(found, Filters))
    return Shrunk(small, nominal, effective, _removed(graph, small, state), folded, False, state.origin)


def _rules(graph: Graph, state: State) -> list[Rule]:
    rules = []
    for node in graph.nodes:
        rules.append(rule(node, state))
        rules[-1].forward(state)
    state.pin(graph.output)
    return rules


def _decide(rules: Sequence[Rule], state: State) -> None:
    """What is read and what stays: first without carriers, then with them, chosen among what stays where possible."""
    for state.choosing in (False, True):
        state.forget()
        for found in reversed(rules):
            found.backward(state)
        state.decide()
    layers = [found for found in reversed(rules) if isinstance(found, Filters) and found.inner is not None]
    while starved := [layer for layer in layers if _starved(layer, state)]:
        state.keep(starved[0].sources[0])


def _starved(layer: Filters, state: State) -> bool:
    return bool(state.kept(layer.node.name).any()) and not state.kept(layer.sources[0]).any()


def _rewritten(graph: Graph, rules: Sequence[Rule], state: State) -> Graph:
    nodes: list[Node] = []
    for found in rules:
        node = found.rewritten(state)
        if node is None:
            name = state.instead[found.node.name]
            state.instead[found.node.name] = state.instead.get(name, name)
        else:
            nodes.append(renamed(node, state.instead))
    output = state.instead.get(graph.output, graph.output)
    return replace(graph, nodes=tuple(nodes), output=output, tensors=state.tensors).pruned()


def _constant(graph: Graph) -> Graph:
    """The logits of any image, as a graph."""
    logits = run(graph, torch.zeros(graph.batch or 1, *graph.shape, dtype=dtype(graph)))[:1]
    count, constant, every = (f"{graph.input}.{word}" for word in ("count", "constant", "logits"))
    size = Node(count, "sym_size.int", (Ref(graph.input), 0))
    made = Node(every, "expand", (Ref(constant), (Ref(count), logits.shape[1]), False))
    return Graph(graph.input, graph.shape, (size, made), every, {constant: logits}, graph.batch)


def _nonzeros(graph: Graph) -> dict[str, int]:
    return {name: int(graph.tensor(name).count_nonzero()) for name in layer_weights(graph)}


def _removed(graph: Graph, small: Graph | None, state: State) -> dict[str, int]:
    """Filters gone, by the weight that held them; those of a tied weight counted for the reader that kept most."""
    rows = dict.fromkeys(layer_weights(graph), 0)
    for name in layer_weights(small) if small is not None else ():
        old = state.origin.get(name, name)
        rows[old] = max(rows[old], small.tensors[name].shape[0] if small is not None else 0)
    return {name: graph.tensors[name].shape[0] - count for name, count in rows.items()}
