"""A graph compiled: what the sparse engine knows runs there, the rest in PyTorch."""

import threading
import warnings
from ctypes import c_void_p, pointer
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from harp.ambient import ordinary, pinned
from harp.errors import HarpError
from harp.graph import Graph, Interpreter, Node
from harp.graph.interpret import carry_out, steps
from harp.runtime.compiling import CompiledSegment
from harp.runtime.lowering import Lowering
from harp.runtime.native import Native, native
from harp.runtime.segments import Segment, cut
from harp.runtime.tiling import Machine


class Engine:
    """A network as a function of images [n, *shape], float32 on the CPU, to logits [n, classes]; no gradients.

    `threads` share out the images of a batch; one image takes one. Made by `compile`. Calls from several Python
    threads wait for one another.
    """

    def __init__(self, graph: Graph, threads: int, build: Native):
        self.graph, self.threads, self.build = graph, threads, build
        self.why = f"the sparse engine, {build.variant}"
        lowering = Lowering(graph)
        items = cut(graph, lowering)
        machine = Machine(build.lanes, build.registers)
        self._lock = threading.Lock()
        self._shape = torch.Size(graph.shape)
        self._parts = [
            _Native(CompiledSegment(item, lowering.constants, machine), lowering, build, threads)
            if isinstance(item, Segment)
            else item
            for item in items
        ]
        whole = len(self._parts) == 1 and isinstance(self._parts[0], _Native) and graph.batch is None
        self._alone = self.segments[0] if whole else None  # a short way, which saves microseconds
        self._calls = _calls(graph, [part for part in self._parts if isinstance(part, Node)])
        read = {name for part in self._parts if isinstance(part, Node) for name in part.refs()}
        self._tensors = {name: graph.tensor(name) for name in graph.tensors if name in read}

    def __reduce__(self) -> Any:
        """A copy is compiled anew: arenas and addresses cannot be copied."""
        return compile, (self.graph, self.threads, self.build.variant)

    @property
    def segments(self) -> list["_Native"]:
        """What runs in the sparse engine."""
        return [part for part in self._parts if isinstance(part, _Native)]

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
        for part in self._parts:
            if isinstance(part, Node):
                values[part.name] = carry_out(self._calls[part.name], values)
            else:
                part(values, len(x))
        logits: Tensor = values[self.graph.output]
        return logits


def _calls(graph: Graph, nodes: list[Node]) -> dict[str, Any]:
    """The nodes that PyTorch runs, as calls; values stay, since a segment may read them later."""
    plain = replace(graph, nodes=tuple(nodes))
    return {step.name: replace(step, last=()) for step in steps(plain, torch.device("cpu"))}


class _Native:
    """A compiled segment with its arenas, one a thread, and the dense shapes of what it makes.

    Images run one by one until a batch comes that is large enough for blocks, which run as many images as a vector has
    floats side by side. Only then is the segment divided into programs for blocks, which halves the time to load.
    """

    def __init__(self, compiled: CompiledSegment, lowering: Lowering, build: Native, threads: int):
        self.compiled, self.build, self.run, self.threads = compiled, build, build.run, threads
        self._into, self._outof = (c_void_p * len(compiled.inputs))(), (c_void_p * len(compiled.outputs))()
        self._settle()
        self._sizes = compiled.input_sizes()
        self._shapes = {name: self._dense(lowering.shapes[name], lowering.batch) for name in compiled.outputs}
        self._tail = next(iter(self._shapes.values()))[1:]

    def _settle(self) -> None:
        """The structure and the arenas for the programs there are; called again once there are those for blocks."""
        for part in (self.compiled.whole, self.compiled.head, self.compiled.tail):
            if part is not None:
                self.build.check(part.program)
        self._network, self._kept = self.compiled.network()
        self._pointer = pointer(self._network)
        self._arenas = [_aligned(self.compiled.floats()) for _ in range(self.threads)]
        self._places = (c_void_p * self.threads)(*(arena.data_ptr() for arena in self._arenas))
        # Whether a batch may still ask for blocks: once they are made, the engine itself chooses between them and
        # single images.
        self._divisible = bool(self.compiled.late) and self.compiled.tail is None

    def _run(self, images: int) -> None:
        if self._divisible and images >= self.compiled.block:
            self.compiled.divide()
            self._settle()
        self.run(self._pointer, self._into, self._outof, images, self.threads, self._places)

    @staticmethod
    def _dense(shape: tuple[int, ...], batch: int) -> tuple[int, ...]:
        return (shape[0] // batch, *shape[1:])

    def alone(self, x: Tensor) -> Tensor:
        """The one value it makes of the one it takes."""
        x, made = _floats(x, len(x) * self._sizes[0]), _empty((len(x), *self._tail))
        self._into[0], self._outof[0] = _address(x), _address(made)
        self._run(len(x))
        return made

    def __call__(self, values: dict[str, Any], images: int) -> None:
        named = zip(self.compiled.inputs, self._sizes, strict=True)
        given = [_floats(values[name], images * size) for name, size in named]
        for place, tensor in enumerate(given):
            self._into[place] = _address(tensor)
        for place, (name, shape) in enumerate(self._shapes.items()):
            made = values[name] = _empty((images * shape[0], *shape[1:]))
            self._outof[place] = _address(made)
        self._run(images)


def _floats(x: Tensor, size: int) -> Tensor:
    """`x` as C may read it: so many float32 numbers one after the other on the CPU; else raises `HarpError`."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.layout != torch.strided or x.numel() != size:
        raise HarpError(f"the sparse engine was handed {_form(x)}; expected {size} float32 numbers on the CPU")
    return x.resolve_neg().contiguous()


def _empty(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _address(tensor: Tensor) -> int:
    """Where the numbers are; raises `HarpError` where there are none, as in FakeTensorMode and inside `torch.vmap`.

    C takes an address at its word, and a wrong one reads or writes elsewhere.
    """
    try:
        found = 0 if torch._C._is_tracing() else tensor.data_ptr()
    except RuntimeError:
        found = 0
    if not found:
        raise HarpError(
            "the sparse engine was handed a tensor without numbers of its own; call it outside of torch.func "
            "transforms, of torch.jit.trace, and of modes such as FakeTensorMode"
        )
    return found


def _form(x: Tensor) -> str:
    kind, layout = (str(value).removeprefix("torch.") for value in (x.dtype, x.layout))
    return f"{kind} {list(x.shape)} on {x.device} ({layout})"


def _check(x: Tensor, shape: torch.Size) -> None:
    if x.dtype != torch.float32 or x.shape[1:] != shape or not len(x):
        kind, expected = str(x.dtype).removeprefix("torch."), ", ".join(map(str, shape))
        raise HarpError(f"images of {kind} {list(x.shape)}; expected float32 [n, {expected}]")


def _aligned(floats: int) -> Tensor:
    """Zeros that begin where a cache line does."""
    whole = torch.zeros(floats + 16, dtype=torch.float32, device="cpu")
    skip = -whole.data_ptr() % 64 // 4
    return whole[skip : skip + floats]


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
def compile(graph: Graph, threads: int = 1, variant: str | None = None) -> Engine | Fallback:
    """The graph as a quick function from images [n, *shape] in float32 to logits [n, classes].

    `threads` of the sparse engine; `variant` names a build of it (`avx512`, `avx2`, `base`) or `torch`, None takes the
    quickest this machine runs. Where there is none, PyTorch runs the graph, with a warning that tells why. Raises
    `HarpError` for threads below 1 and for a variant that is not there.
    """
    if threads < 1:
        raise HarpError(f"threads {threads}: expected at least 1")
    if variant == "torch":
        return Fallback(graph, threads, "PyTorch, as asked")
    try:
        build = native(variant)
    except HarpError as error:
        if variant is not None:
            raise
        warnings.warn(f"PyTorch runs this network, and sparsity gains nothing: {error}", stacklevel=2)
        return Fallback(graph, threads, f"PyTorch, because {error}")
    return Engine(graph, threads, build)
