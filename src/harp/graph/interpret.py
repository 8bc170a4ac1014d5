"""A graph, run by PyTorch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.graph.calls import CONSTANTS, call_of
from harp.graph.ir import Graph, Node, Value
from harp.graph.operators import operator
from harp.graph.propagating import filled


@dataclass(frozen=True)
class Step:
    """One call: its arguments, in which a `Ref` stands for a value, and the values nobody reads after it."""

    name: str
    call: Callable[..., Any]
    args: tuple[Value, ...]
    kwargs: Mapping[str, Value]
    last: tuple[str, ...]


def steps(graph: Graph, device: torch.device) -> tuple[Step, ...]:
    """The calls of a graph that `check` has passed, in order, on a device."""
    seen, found = {graph.output}, []
    for node in reversed(graph.nodes):
        refs = set(node.refs())
        found.append(step_of(node, device, tuple(n for n in refs if n not in seen and n not in graph.tensors)))
        seen |= refs
    return tuple(reversed(found))


def step_of(node: Node, device: torch.device, last: tuple[str, ...] = ()) -> Step:
    """The call that a node stands for, on a device; `last` are the values that nobody reads after it."""
    kind = operator(node.op)
    words = [isinstance(value, str) and p.kind not in ("str", "Optional[str]") for p, value in _pairs(node)]
    values = [CONSTANTS[value] if word else value for word, value in zip(words, node.args, strict=True)]
    if kind.factory:
        values = [device if p.kind == "Optional[Device]" else v for p, v in zip(kind.parameters, values, strict=True)]
    keyword = {p.name: v for p, v in zip(kind.parameters, values, strict=True) if p.keyword}
    return Step(node.name, call_of(node.op), tuple(values[: len(values) - len(keyword)]), keyword, last)


def _pairs(node: Node) -> Any:
    return zip(operator(node.op).parameters, node.args, strict=True)


def carry_out(step: Step, values: dict[str, Any]) -> Any:
    """What the step computes from `values`; those nobody reads afterwards are gone from there."""
    args = [filled(value, values) for value in step.args]
    kwargs = {key: filled(value, values) for key, value in step.kwargs.items()}
    try:
        made = step.call(*args, **kwargs)
    except Exception as error:  # operators raise whatever there is
        line = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise HarpError(f"the graph's node {step.name!r} cannot be computed: {line[:300]}") from error
    for name in step.last:
        values.pop(name, None)
    return made


class Interpreter:
    """A graph as a function, operator by operator with PyTorch; dense tensors are made once, on `device`.

    `interpreter(x)` takes images [n, *shape] to logits [n, classes] and can be differentiated. A graph for one number
    of images at a time is given that many after each other; the rest of a batch is refused unless that number is 1.
    Raises `HarpError` for images of another shape, and, naming the node, for what PyTorch cannot compute. The graph is
    taken at its word: one from a file has to pass `check` first.
    """

    def __init__(self, graph: Graph, device: torch.device | str = "cpu"):
        self.graph = graph
        self.device = torch.device(device)
        self._steps = steps(graph, self.device)
        self._tensors = {name: graph.tensor(name).to(self.device) for name in graph.tensors}

    def __call__(self, x: Tensor) -> Tensor:
        return self.on(self._tensors, x)

    def on(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The same with other tensors in the place of the graph's own, by their names, on the interpreter's device."""
        # Not len(x): where this is traced anew, as for ONNX, that would fix the number of images.
        if tuple(x.shape[1:]) != self.graph.shape or x.shape[0] == 0:
            raise HarpError(f"images of shape {list(x.shape)}; expected [n, {', '.join(map(str, self.graph.shape))}]")
        if self.graph.batch is None:
            return self._forward(tensors, x)
        if len(x) % self.graph.batch:
            raise HarpError(f"{len(x)} images; this graph takes multiples of {self.graph.batch}")
        return torch.cat([self._forward(tensors, part) for part in torch.split(x, self.graph.batch)])

    def _forward(self, tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
        values: dict[str, Any] = {**tensors, self.graph.input: x}
        for step in self._steps:
            values[step.name] = carry_out(step, values)
        logits: Tensor = values[self.graph.output]
        return logits


def run(graph: Graph, x: Tensor) -> Tensor:
    """Logits [n, classes] of images [n, *shape]; see `Interpreter`, which is faster when run more than once."""
    return Interpreter(graph, x.device)(x)
