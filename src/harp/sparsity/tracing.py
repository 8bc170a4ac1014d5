"""Which indices of which tensors the dependency graph of a network ties to one another.

Torch-Pruning (Fang et al., DepGraph, CVPR 2023) traces the graph and knows how indices pass from layer to layer. Only
that is taken from it: its own groups forget an index's second origin and take the channels of a grouped convolution
for independent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from harp.errors import HarpError
from harp.extras import need

Port = tuple[Any, Any]  # a node of the graph, and Torch-Pruning's function that prunes one side of it
Index = tuple[str, int, int]  # tensor, axis, index


class Ties:
    """Numbered indices of ports and of tensors, the edges between them, and why some of them have to stay."""

    def __init__(self) -> None:
        self.numbers: dict[Any, int] = {}
        self.edges: list[tuple[int, int]] = []
        self.reasons: dict[int, str] = {}
        self.places: dict[Index, int] = {}
        self.inputs: set[tuple[str, int]] = set()  # axes that are inputs of weights
        self.outputs: set[tuple[str, int]] = set()  # axes that are outputs of weights

    def number(self, port: Port, index: int) -> int:
        """The number of an index at a port, a new one where it is new."""
        return self.numbers.setdefault((port, index), len(self.numbers))

    def place(self, place: Index) -> int:
        """The number of an index of a tensor, a new one where it is new."""
        return self.places.setdefault(place, self.numbers.setdefault(place, len(self.numbers)))


def shapes_of(model: nn.Module) -> dict[str, torch.Size]:
    """The shape of every tensor of the `state_dict`, in definition order, a tied one under its first name only."""
    first: dict[int, str] = {}
    state = model.state_dict(keep_vars=True)
    return {name: tensor.shape for name, tensor in state.items() if first.setdefault(id(tensor), name) == name}


def trace(model: nn.Module, example: Tensor, axes: Mapping[str, int] | None = None) -> Ties:
    """The ties of a network; `example` is one batch of its inputs, `axes` where bare parameters hold their channels.

    `model` is in eval mode and its parameters require gradients. Raises `HarpError` where Torch-Pruning is not
    installed or cannot trace the network.
    """
    graph = need("torch_pruning.dependency", "structured", "pruning channels").DependencyGraph()
    logits: list[Tensor] = []

    def forward(net: nn.Module, images: Tensor) -> Tensor:
        logits.append(net(images))
        return logits[0]

    bare = [(model.get_parameter(name), axis) for name, axis in (axes or {}).items()]
    try:
        # Without a forward_fn the batch would be taken apart into one argument per image.
        graph.build_dependency(model, example, forward_fn=forward, unwrapped_parameters=bare, verbose=False)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise HarpError(f"Torch-Pruning cannot trace {type(model).__name__} ({reason})") from error
    _join(graph)
    _subsample(graph)
    ties = Ties()
    ports = _walk(graph, ties)
    anchor = _Anchor(model, graph, ties, logits[0].grad_fn)
    for port, indices in ports.items():
        anchor(port, sorted(indices))
    return ties


def _join(graph: Any) -> None:
    """Offsets for the concatenations that Torch-Pruning leaves without, because what follows flattens their pixels."""
    from torch_pruning.dependency.index_mapping import _ConcatIndexMapping
    from torch_pruning.dependency.shape_infer import infer_in_channels_recursively

    for node in graph.module2node.values():
        sizes = getattr(node.module, "concat_sizes", None)
        if node.type != graph.ops.OPTYPE.CONCAT or not sizes or None in sizes or node.module.offsets is not None:
            continue
        read = infer_in_channels_recursively(graph, node, [0])
        if read is None or read % sum(sizes):
            continue  # joined along another axis, such as tokens
        for source, end, size in zip(node.inputs, accumulate(sizes), sizes, strict=True):
            for edges, target, reverse in ((node.dependencies, source, True), (source.dependencies, node, False)):
                free = (edge for edge in edges if edge.target is target and edge.index_mapping[1] is None)
                next(free).index_mapping[1] = _ConcatIndexMapping([end - size, end], reverse=reverse)


def _subsample(graph: Any) -> None:
    """No channels are dropped by slices of another axis, which Torch-Pruning takes for channels where that is last."""
    from torch_pruning.dependency.shape_infer import infer_out_channels_recursively

    for node in graph.module2node.values():
        sizes = getattr(node.grad_fn, "_saved_self_sym_sizes", None)
        if node.type != graph.ops.OPTYPE.SLICE or sizes is None:
            continue
        # A negative axis is saved as an unsigned number.
        axis = node.module.dim if node.module.dim < len(sizes) else node.module.dim - 2**64
        if sizes[axis] != infer_out_channels_recursively(graph, node.inputs[0], [0]):
            edges = [*node.dependencies, *(edge for source in node.inputs for edge in source.dependencies)]
            for edge in edges:
                if edge.target is node or edge.target in node.inputs:
                    edge.index_mapping[0] = None


def _walk(graph: Any, ties: Ties) -> dict[Port, set[int]]:
    """Every index that is reached at each port from the outputs of the weights; every edge passed becomes a tie."""
    waiting = list(_outputs(graph))  # indices that were reached, but not yet followed
    reached: dict[Port, set[int]] = defaultdict(set)
    for port, indices in waiting:
        reached[port] |= indices
    while waiting:
        port, indices = waiting.pop()
        node, side = port
        for edge in node.dependencies:
            if edge.trigger != side:
                continue  # it leaves from the node's other side
            target, pairs = (edge.target, edge.handler), _passed(edge, indices)
            ties.edges += [
                (ties.number(port, start), ties.number(target, end)) for start, end in pairs if start is not None
            ]
            fresh = {end for _, end in pairs} - reached[target]
            if fresh:
                reached[target] |= fresh
                waiting.append((target, fresh))
    return reached


def _outputs(graph: Any) -> Iterator[tuple[Port, set[int]]]:
    """Where the walk begins: the side of each convolution and linear layer that its outputs leave from, and these."""
    for module, node in graph.module2node.items():
        if isinstance(module, _ConvNd | nn.Linear):
            pruner = graph.get_pruner_of_module(module)
            yield (node, pruner.prune_out_channels), set(range(pruner.get_out_channels(module)))


def _passed(edge: Any, indices: Set[int]) -> list[tuple[int | None, int]]:
    """Each of the `indices` and what it becomes behind an edge: none, one or several. None where an edge forgets it."""
    from torch_pruning._helpers import _HybridIndex

    # A root_idx travels through the mappings unchanged: here it tells where each index came from.
    passed = [_HybridIndex(idx=i, root_idx=i) for i in sorted(indices)]
    for mapping in edge.index_mapping:
        passed = passed if mapping is None else mapping(passed)
    return [(index.root_idx, index.idx) for index in passed]


class _Anchor:
    """Ties the indices of a port to their places in tensors, or notes why they have to stay."""

    def __init__(self, model: nn.Module, graph: Any, ties: Ties, end: Any):
        self.graph, self.ties, self.end = graph, ties, end
        self.paths = {module: path for path, module in model.named_modules()}
        self.shapes = shapes_of(model)
        state = model.state_dict(keep_vars=True)
        self.names = {id(state[name]): name for name in self.shapes}

    def __call__(self, port: Port, indices: Iterable[int]) -> None:
        node, side = port
        module = node.module
        outward = side == self.graph.get_pruner_of_module(module).prune_out_channels
        obstacle = self._obstacle(node, outward)
        for index in indices:
            number = self.ties.number(port, index)
            if obstacle:
                self.ties.reasons[number] = obstacle
            if isinstance(module, nn.Parameter):
                self._tie(number, (self.names[id(module)], node.pruning_dim, index))
            else:
                self._tie_module(number, module, outward, index)

    def _tie(self, number: int, place: Index) -> None:
        name, axis, index = place
        if self.shapes[name][axis] == 1:
            return  # it is spread over all channels, such as a gate's one map, and belongs to none of them
        if index < self.shapes[name][axis]:
            self.ties.edges.append((number, self.ties.place(place)))
        else:
            self.ties.reasons[number] = f"the tracer's indices do not fit {name}"

    def _tie_module(self, number: int, module: nn.Module, outward: bool, index: int) -> None:
        for what, axis, place in places(module, outward, index):
            tensor = getattr(module, what)
            if tensor is not None:
                self._tie(number, (self.names[id(tensor)], axis, place))
        if isinstance(module, _ConvNd | nn.Linear):
            axes = self.ties.outputs if outward or _per_channel(module) else self.ties.inputs
            axes.add((self.names[id(module.weight)], places(module, outward, 0)[0][1]))

    def _obstacle(self, node: Any, outward: bool) -> str | None:
        kinds = self.graph.ops.OPTYPE
        kind = type(node.module).__name__
        if node.type == kinds.OUTPUT or (outward and node.grad_fn is self.end):
            return "its channels are the logits"
        if node.type in (kinds.LN, kinds.GN):
            return f"{kind} {self.paths[node.module]} takes its statistics over these channels"
        if node.type in (kinds.MHA, kinds.LSTM, kinds.EMBED):
            return f"its channels pass through {kind} {self.paths[node.module]}"
        return None


def _per_channel(module: nn.Module) -> bool:
    """Depthwise: every input channel has filters of its own."""
    return isinstance(module, _ConvNd) and module.groups == module.in_channels > 1


def places(module: nn.Module, outward: bool, index: int) -> list[tuple[str, int, int]]:
    """Where an output (or input) channel of a layer sits: (tensor, axis, index), first in the weight.

    Places that come together in one list can only go together. In a grouped convolution these are the same offset in
    every group, so that the number of groups stays; in a depthwise one all filters of an input channel.
    """
    if isinstance(module, nn.Linear):
        return [("weight", 0, index), ("bias", 0, index)] if outward else [("weight", 1, index)]
    if isinstance(module, _ConvNd):
        return _places(module, outward, index)
    if isinstance(module, _NormBase):
        return [(what, 0, index) for what in ("weight", "bias", "running_mean", "running_var")]
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return [("weight", 0, index)]
    return []


def _places(module: _ConvNd, outward: bool, index: int) -> list[tuple[str, int, int]]:
    groups, transposed = module.groups, module.transposed
    filters = module.out_channels // groups
    if _per_channel(module):
        channel = index // filters if outward else index
        outputs = range(channel * filters, (channel + 1) * filters)
        weight = [channel] if transposed else outputs
        return [*(("weight", 0, i) for i in weight), *(("bias", 0, i) for i in outputs)]
    size = module.out_channels if outward else module.in_channels
    offset = index % (size // groups)
    every = range(offset, size, size // groups)
    # The axis of one group's inputs, in a transposed convolution of its outputs, is shared by all groups.
    weight = [offset] if outward == transposed else every
    axis = int(outward == transposed)
    return [*(("weight", axis, i) for i in weight), *(("bias", 0, i) for i in every if outward)]
