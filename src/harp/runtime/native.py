"""The compiled engine: which build of it suits this processor, and its C structures."""

import ctypes
import platform
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch

from harp.errors import HarpError

FOLDER = Path(__file__).parent
KINDS = ("input", "output", "conv", "linear", "views", "pool", "add", "activate", "mean", "copy", "scale")
ACTS = (
    *("none", "clamp", "leaky", "silu", "gelu", "gelu_tanh"),
    *("hardswish", "sigmoid", "hardsigmoid", "tanh", "elu"),
)
_NUMBERS = (
    *("filters", "width", "lanes", "tile", "tiles", "before", "after", "brief", "base", "stride", "rows", "columns"),
    *("kernel_h", "kernel_w", "pad_h", "pad_w", "stride_h", "stride_w", "dilate_h", "dilate_w"),
    *("average", "count_pad", "views", "channel", "tokens", "halved"),
)


class Buffer(ctypes.Structure):
    """The planes of one value; counts are of elements."""

    _fields_ = (
        ("at", c_int64),
        *((name, c_int32) for name in ("channels", "height", "width", "pitch")),
        ("plane", c_int64),
    )


class Step(ctypes.Structure):
    """One step of a program; engine.cpp tells what the fields mean."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "input", "other", "output", "act")),
        *((name, c_float) for name in ("low", "high")),
        *((name, c_int32) for name in _NUMBERS),
        *((name, c_void_p) for name in ("starts", "entries", "bias", "up", "down", "valid", "taps")),
    )


class Program(ctypes.Structure):
    """Steps over buffers, for one image at a time or for as many as there are lanes."""

    _fields_ = (("buffers", c_void_p), ("steps", c_void_p), ("count", c_int32), ("images", c_int32))


class Network(ctypes.Structure):
    """The same layers as `whole` for one image, and as `head` for one and `tail` for a block of images (or null)."""

    _fields_ = (
        *((name, POINTER(Program)) for name in ("whole", "head", "tail")),
        *((name, c_int32) for name in ("inputs", "outputs", "bounds", "block")),
        *((name, POINTER(c_int64)) for name in ("input_sizes", "output_sizes")),
        ("floats", c_int64 * 3),
    )


class Native:
    """A loaded build of the engine."""

    def __init__(self, path: Path):
        library = ctypes.CDLL(str(path))
        self.variant = path.name.partition(".")[0].removeprefix("_engine_")
        self.lanes: int = library.harp_lanes()
        self.registers: int = library.harp_registers()
        sizes = [ctypes.sizeof(kind) for kind in (Buffer, Step, Program, Network)]
        library.harp_sizes.restype = c_int64
        if library.harp_sizes() != sum(size * 1000**place for place, size in enumerate(sizes)):
            raise HarpError(f"{path.name} was built from another version of harp; install harp again")
        self.run = library.harp_run
        self.run.restype = None
        self.run.argtypes = (
            *(POINTER(Network), POINTER(c_void_p), POINTER(c_void_p), c_int64, c_int32, POINTER(c_void_p)),
        )


def variants() -> tuple[str, ...]:
    """The builds this processor can run, the quickest first."""
    if platform.machine() in ("aarch64", "arm64"):
        return ("base",)
    able = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": ("avx512", "avx2", "base"), "AVX2": ("avx2", "base")}.get(able, ("base",))


def built() -> dict[str, Path]:
    """The builds that lie beside this file, by variant."""
    return {path.name.partition(".")[0].removeprefix("_engine_"): path for path in sorted(FOLDER.glob("_engine_*.so"))}


@cache
def native(variant: str | None = None) -> Native:
    """The engine's build of that name, or the quickest that this processor runs.

    Raises `HarpError`, with the reason, where there is none: installed without a C++ compiler, or for a system that
    the engine is not written for.
    """
    found = built()
    for name in variants() if variant is None else (variant,):
        if name in found:
            return Native(found[name])
    if variant is not None:
        raise HarpError(f"no build {variant!r} of the sparse engine; there are: {', '.join(found) or 'none'}")
    raise HarpError("the sparse engine is not built here (harp was installed without a C++ compiler)")
