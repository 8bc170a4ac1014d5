"""A graph compiled: what the sparse engine knows runs there, the rest in PyTorch."""

import os
import threading
import warnings
from dataclasses import replace
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

from harp.ambient import ordinary, pinned
from harp.errors import HarpError
from harp.graph import Graph, Interpreter, Node, to_arrays
from harp.graph.interpret import carry_out, steps
from harp.runtime.compiling import CompiledSegment
from harp.runtime.handing import TensorCaller
from harp.runtime.lowering import Lowering
from harp.runtime.narrowing import BeyondError, check_room
from harp.runtime.native import Native, Precision, native
from harp.runtime.segments import Segment, cut
from harp.runtime.tiling import Machine


class Engine:
    """A network as a function of images [n, *shape], float32 on the CPU, to logits [n, classes]; no gradients.

    `threads` share out the images of a batch, or all work on one where there are few and each is much work. Made by
    `compile`. Calls from several Python threads wait for one another.
    """

    def __init__(self, graph: Graph, threads: int, build: Native):
        self.graph, self.threads, self.build = graph, threads, build
        self.why = f"the sparse engine, {build.variant}"
        arrays = to_arrays(graph)
        lowering = Lowering(arrays)
        self._lock = threading.Lock()
        _ENGINES.add(self)
        self._shape = torch.Size(graph.shape)
        self._parts = self._compiled(cut(arrays, lowering), lowering)
        self._last = _last(self._parts, graph)
        whole = len(self._parts) == 1 and isinstance(self._parts[0], TensorCaller) and graph.batch is None
        self._alone = self.segments[0] if whole else None  # a short way, which saves microseconds
        self._calls = _calls(graph, [part for part in self._parts if isinstance(part, Node)])
        read = {name for part in self._parts if isinstance(part, Node) for name in part.refs()}
        self._tensors = {name: graph.tensor(name) for name in graph.tensors if name in read}

    def _compiled(self, items: list[Segment | Node], lowering: Lowering) -> list[TensorCaller | Node]:
        """Each segment ready to be called, or the nodes of one that is larger than the engine takes."""
        machine = Machine(self.build.lanes, self.build.registers)
        parts: list[TensorCaller | Node] = []
        cells = weights = 0
        for item in items:
            if isinstance(item, Node):
                parts.append(item)
                continue
            try:
                made = CompiledSegment(item, lowering.constants, machine)
                cells, weights = cells + made.cells(), weights + made.weights
                check_room(cells // 2, weights, "the arenas of all segments")  # each has to be zeros at first
                parts.append(TensorCaller(made, lowering, self.build, self.threads))
            except BeyondError:
                parts += item.plain()
        return parts

    def __reduce__(self) -> Any:
        """A copy is compiled anew: arenas and addresses cannot be copied."""
        return compile, (self.graph, self.threads, self.build.variant)

    @property
    def segments(self) -> list[TensorCaller]:
        """What runs in the sparse engine."""
        return [part for part in self._parts if isinstance(part, TensorCaller)]

    def __call__(self, x: Tensor) -> Tensor:
        """Logits float32 [n, classes]; raises `HarpError` for images of another shape or dtype."""
        _check(x, self._shape)
        with self._lock:
            if self._alone is not None:
                return self._alone.alone(x)
            if self.graph.batch is None:
                with ordinary(), torch.no_grad():
                    return self._forward(x)
            if len(x) % self.graph.batch:
                raise HarpError(f"{len(x)} images; this graph takes multiples of {self.graph.batch}")
            with ordinary(), torch.no_grad():
                return torch.cat([self._forward(part) for part in torch.split(x, self.graph.batch)])

    def _forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {**self._tensors, self.graph.input: x}
        for part, last in zip(self._parts, self._last, strict=True):
            if isinstance(part, Node):
                values[part.name] = carry_out(self._calls[part.name], values)
            else:
                part(values, len(x))
            for name in last:
                del values[name]
        logits: Tensor = values[self.graph.output]
        return logits


_ENGINES: WeakSet[Engine] = WeakSet()


def _unlocked() -> None:
    """In a child of a fork the thread that held a lock is not there to release it."""
    for engine in list(_ENGINES):
        engine._lock = threading.Lock()


os.register_at_fork(after_in_child=_unlocked)


def _last(parts: list[TensorCaller | Node], graph: Graph) -> list[list[str]]:
    """Of each part, the values that nothing reads after it; tensors and the output stay."""
    seen = {graph.output, *graph.tensors}
    found = []
    for part in reversed(parts):
        names = dict.fromkeys(part.refs() if isinstance(part, Node) else part.compiled.inputs)
        found.append([name for name in names if name not in seen])
        seen.update(names)
    return found[::-1]


def _calls(graph: Graph, nodes: list[Node]) -> dict[str, Any]:
    """The nodes that PyTorch runs, as calls, which leave values where they are: a segment may read them later."""
    plain = replace(graph, nodes=tuple(nodes))
    return {step.name: replace(step, last=()) for step in steps(plain, torch.device("cpu"))}


def _check(x: Tensor, shape: torch.Size) -> None:
    if x.dtype != torch.float32 or x.shape[1:] != shape or not len(x):
        kind, expected = str(x.dtype).removeprefix("torch."), ", ".join(map(str, shape))
        raise HarpError(f"images of {kind} {list(x.shape)}; expected float32 [n, {expected}]")


class Fallback:
    """The same function by PyTorch alone, where the sparse engine cannot run; `why` tells why."""

    def __init__(self, graph: Graph, threads: int, why: str):
        self.graph, self.threads, self.why = graph, threads, why
        self._interpreter = Interpreter(graph)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [n, classes] of images [n, *shape]; raises `HarpError` for images of another shape."""
        _check(x, torch.Size(self.graph.shape))
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with ordinary(), torch.no_grad():
                return self._interpreter(x)
        finally:
            torch.set_num_threads(before)


@pinned()
def compile(
    graph: Graph, threads: int = 1, variant: str | None = None, precision: Precision = "fp32"
) -> Engine | Fallback:
    """The graph as a quick function from images [n, *shape] in float32 to logits [n, classes].

    `threads` of the sparse engine; `variant` names a build of it (`avx512`, `avx2`, `base`) or `torch`, None takes the
    quickest this machine runs. With `precision` "fp16" what is kept between layers has 16 bits: numbers above 65,504
    become infinite there, and logits are off by 1e-3 to 2e-2 of the largest. Where there is no build, PyTorch runs the
    graph in float32, and a warning tells why. Raises `HarpError` for threads below 1, a variant that is not there, and
    fp16 without a build.
    """
    if threads < 1:
        raise HarpError(f"threads {threads}: expected at least 1")
    if variant == "torch":
        return Fallback(graph, threads, "PyTorch, as asked")
    try:
        build = native(variant, precision)
    except HarpError as error:
        if variant is not None or precision != "fp32":
            raise
        warnings.warn(f"PyTorch runs this network, and sparsity gains nothing: {error}", stacklevel=2)
        return Fallback(graph, threads, f"PyTorch, because {error}")
    return Engine(graph, threads, build)
