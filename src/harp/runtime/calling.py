"""A compiled segment called: tensors checked and handed to C by address, and the memory it works in."""

from ctypes import c_void_p, pointer
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.runtime.compiling import CompiledSegment
from harp.runtime.lowering import Lowering
from harp.runtime.native import Native


@dataclass(frozen=True)
class Ready:
    """What the engine is handed: the network, where each thread's arena is, and what has to live as long.

    One thing, and so replaced in one step, in the middle of which no thread can fork.
    """

    network: Any
    places: Any
    arenas: list[Tensor]
    kept: Any
    divisible: bool  # whether a batch may still ask for blocks


class Caller:
    """A compiled segment with its arenas, one a thread, and the dense shapes of what it makes.

    Images run one by one until a batch comes that is large enough for blocks, which run as many images as a vector has
    floats side by side. Only then is the segment divided into programs for blocks, which halves the time to load.
    """

    def __init__(self, compiled: CompiledSegment, lowering: Lowering, build: Native, threads: int):
        self.compiled, self.build, self.run, self.threads = compiled, build, build.run, threads
        self._into, self._outof = (c_void_p * len(compiled.inputs))(), (c_void_p * len(compiled.outputs))()
        self._ready = self._settled(1)
        self._sizes = compiled.input_sizes()
        self._shapes = {name: self._dense(lowering.shapes[name], lowering.batch) for name in compiled.outputs}
        self._tail = next(iter(self._shapes.values()))[1:]

    def _settled(self, threads: int) -> Ready:
        """The structure and arenas for the programs there are; made again once there are those for blocks."""
        for part in (self.compiled.whole, self.compiled.head, self.compiled.tail):
            if part is not None:
                self.build.check(part.program)
        network, kept = self.compiled.network()
        arenas = [_aligned(self.compiled.floats()) for _ in range(threads)]
        places = (c_void_p * threads)(*(arena.data_ptr() for arena in arenas))
        # Once there are blocks, the engine itself chooses between them and single images.
        divisible = bool(self.compiled.late) and self.compiled.tail is None
        return Ready(pointer(network), places, arenas, kept, divisible)

    def _run(self, images: int) -> None:
        ready, threads = self._ready, min(self.threads, images)
        if ready.divisible and images >= self.compiled.block:
            self.compiled.divide()
            ready = self._ready = self._settled(threads)
        elif threads > len(ready.arenas):
            ready = self._ready = self._settled(threads)
        self.run(ready.network, self._into, self._outof, images, threads, ready.places)

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


def _aligned(floats: int) -> Tensor:
    """Zeros that begin where a cache line does."""
    whole = torch.zeros(floats + 16, dtype=torch.float32, device="cpu")
    skip = -whole.data_ptr() % 64 // 4
    return whole[skip : skip + floats]
