"""The compiled engine: which build of it suits this processor, and its C structures."""

import ctypes
from collections.abc import Callable
from ctypes import POINTER, c_float, c_int32, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from harp import processor
from harp.errors import HarpError

# What is kept between layers; sums are float32 either way.
Precision = Literal["fp32", "fp16"]
FOLDER = Path(__file__).parent
KINDS = ("input", "output", "conv", "linear", "views", "pool", "add", "activate", "mean", "copy", "scale")
ACTS = (
    *("none", "clamp", "leaky", "silu", "gelu", "gelu_tanh"),
    *("hardswish", "sigmoid", "hardsigmoid", "tanh", "elu"),
)
# Filters that share a list in a convolution's step; `few` and `dense` stand for kernels of their own.
WIDTHS = {"few": 0, "one": 1, "four": 4, "dense": 16}
# What lists are made of: one weight and where it is read, the same in 6 bytes, four weights.
ONE = np.dtype([("offset", np.int32), ("weight", np.float32)])
SHORT = np.dtype([("offset", np.uint16), ("weight", np.float32)])
FOUR = np.dtype([("offset", np.int32), ("weight", np.float32, (4,))])
_ENTRIES = {"Entry": ONE, "ShortEntry": SHORT, "Entry4": FOUR}
_NUMBERS = (
    *("filters", "width", "lanes", "tile", "tiles", "before", "after", "brief", "base", "parts"),
    *("stride", "rows", "columns", "kernel_h", "kernel_w", "pad_h", "pad_w", "stride_h", "stride_w"),
    *("dilate_h", "dilate_w", "average", "count_pad", "views", "channel", "tokens", "halved"),
)


class Buffer(ctypes.Structure):
    """The planes of one value; counts are of elements."""

    _fields_ = (
        ("at", c_int64),
        *((name, c_int32) for name in ("channels", "height", "width", "pitch")),
        ("plane", c_int64),
    )


class Step(ctypes.Structure):
    """One step of a program; kernels/abi.h tells what the fields mean."""

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
        ("cells", c_int64 * 3),
        ("worth", c_int64),
    )


_STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "Buffer": Buffer,
    "Step": Step,
    "Program": Program,
    "Network": Network,
}


class Native:
    """A loaded build of the engine."""

    def __init__(self, path: Path):
        self.variant = path.name.partition(".")[0].removeprefix("_engine_")
        try:
            library = ctypes.CDLL(str(path))
            library.harp_layout.restype = ctypes.c_char_p
            said = dict(line.split() for line in library.harp_layout().decode().splitlines())
        except (OSError, AttributeError) as error:
            raise HarpError(f"{path.name} is no build of this engine ({error}); install harp again") from None
        self.cell = int(said.pop("Cell", 0))  # bytes of a number in an arena
        here = layout()
        if said != here:
            name = next(name for name in [*here, *said] if said.get(name) != here.get(name))
            raise HarpError(
                f"{path.name} was built from another version of harp: {name} is {said.get(name, 'nowhere')} there and "
                f"{here.get(name, 'nowhere')} here; install harp again"
            )
        self.lanes: int = library.harp_lanes()
        self.registers: int = library.harp_registers()
        library.harp_fingerprint.restype = ctypes.c_uint64
        self.fingerprint: Callable[[], int] = library.harp_fingerprint
        self._strange = library.harp_strange
        self._strange.argtypes = (POINTER(Program),)
        self.run = library.harp_run
        self.run.restype = None
        self.run.argtypes = (
            *(POINTER(Network), POINTER(c_void_p), POINTER(c_void_p), c_int64, c_int32, POINTER(c_void_p)),
        )

    def check(self, program: Program) -> None:
        """Nothing, where this build has a kernel for every step; raises `HarpError` naming the first without one."""
        place = self._strange(ctypes.byref(program))
        if place >= 0:
            step = Step.from_address(program.steps + place * ctypes.sizeof(Step))
            kind = KINDS[step.kind] if 0 <= step.kind < len(KINDS) else step.kind
            numbers = ", ".join(
                f"{name} {getattr(step, name)}" for name in ("width", "lanes", "tile", "rows", "columns")
            )
            raise HarpError(
                f"the engine's build {self.variant} has no kernel for step {place} ({kind}: {numbers}); "
                "variant='torch' runs the network without it"
            )


def layout() -> dict[str, str]:
    """What this file, and those that fill its arrays, take for granted: sizes, places of fields, numbers of names."""
    words = {"input": "in", "output": "out"}  # what Python calls them
    found = {name: ctypes.sizeof(kind) for name, kind in _STRUCTURES.items()}
    found |= {name: kind.itemsize for name, kind in _ENTRIES.items()}
    for name, kind in _STRUCTURES.items():
        fields = [field[0] for field in kind._fields_]
        found |= {f"{name}.{words.get(field, field)}": getattr(kind, field).offset for field in fields}
    for name, values in (("Kind", KINDS), ("Act", ACTS)):
        found |= {f"{name}.{value.upper()}": place for place, value in enumerate(values)}
    found |= {f"Width.{name.upper()}": value for name, value in WIDTHS.items()}
    return {name: str(value) for name, value in found.items()}


def variants() -> tuple[str, ...]:
    """The builds this processor can run, the quickest first."""
    there = processor.features()
    if not there.get("AVX2"):
        return ("base",)
    return ("avx512", "avx2", "base") if there["AVX-512"] else ("avx2", "base")


def built() -> dict[str, Path]:
    """The builds that lie beside this file, by variant."""
    return {path.name.partition(".")[0].removeprefix("_engine_"): path for path in sorted(FOLDER.glob("_engine_*.so"))}


@cache
def native(variant: str | None = None, precision: Precision = "fp32") -> Native:
    """The engine's build of that name, or the quickest of that precision that this processor runs.

    Raises `HarpError`, with the reason, where there is none: installed without a C++ compiler, or for a system that
    the engine is not written for; and for a precision that it does not have.
    """
    if precision not in (known := get_args(Precision)):
        raise HarpError(f"no precision {precision!r} of the sparse engine; there are: {', '.join(known)}")
    found, suffix = built(), "" if precision == "fp32" else f"_{precision}"
    for name in [f"{one}{suffix}" for one in variants()] if variant is None else (variant,):
        if name in found:
            return Native(found[name])
    if variant is not None:
        raise HarpError(f"no build {variant!r} of the sparse engine; there are: {', '.join(found) or 'none'}")
    raise HarpError("the sparse engine is not built here (harp was installed without a C++ compiler)")
