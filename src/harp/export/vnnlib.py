"""Questions for complete verifiers: the network as ONNX, VNN-LIB properties of images, and their list."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.export.onnx import onnx_session, to_onnx
from harp.graph import Graph, Interpreter
from harp.models import Function
from harp.runs import write_atomic
from harp.threats import Threat, exact

NETWORK, INSTANCES = "onnx/network.onnx", "instances.csv"
SECONDS = 300  # the list's third column: what a verifier is given for each property, unless it is told otherwise
DIGITS = 17  # behind the point; a float32 between 0 and 1 has up to 149, so the last is rounded out of the ball


@dataclass(frozen=True)
class Questions:
    """What was written: the images, by their places, that properties are of, and those the network answers wrongly."""

    asked: tuple[int, ...]
    left_out: tuple[int, ...]


def to_vnnlib(graph: Graph, images: Tensor, labels: Tensor, threat: Threat, folder: Path) -> Questions:
    """A property for each image that the network answers rightly: can any image of its ball get another answer?

    `folder`, which must be empty or not be there, then holds the network for one image at a time (onnx/network.onnx),
    vnnlib/image-PLACE.vnnlib of each such image, and, written last, instances.csv: network, property, seconds, as the
    verification competition VNN-COMP has them. What is right is asked of ONNX Runtime, which reads what verifiers read.
    `images` float32 [n, ...], `labels` int64 [n]. Raises `HarpError` for a threat of another norm than inf, for a
    folder with anything in it, where no image is answered rightly, and for all that `to_onnx` refuses.
    """
    check_threat(threat)
    check_folder(folder)
    network = folder / NETWORK
    network.parent.mkdir(parents=True, exist_ok=True)
    to_onnx(Function(Interpreter(graph)).eval(), images, network, single=True)
    answer = onnx_session(network)
    logits = torch.cat([answer(image) for image in torch.split(images, 1)])
    right = logits.argmax(1) == labels.cpu()
    if not right.any():
        raise HarpError(f"the network answers none of {len(images)} images rightly, so there is nothing to verify")
    asked, left_out = (tuple(mask.nonzero().flatten().tolist()) for mask in (right, ~right))
    (folder / "vnnlib").mkdir()
    names = [f"vnnlib/image-{place:05d}.vnnlib" for place in asked]
    for place, name in zip(asked, names, strict=True):
        text = "\n".join(property_of(images[place], int(labels[place]), logits.shape[1], threat))
        write_atomic(folder / name, f"{text}\n".encode())
    write_atomic(folder / INSTANCES, "".join(f"{NETWORK},{name},{SECONDS}\n" for name in names).encode())
    return Questions(asked, left_out)


def check_threat(threat: Threat) -> None:
    """Raises `HarpError` for another norm than inf: only that ball is a box."""
    if threat.norm != math.inf:
        raise HarpError(
            f"VNN-LIB properties hold boxes, balls of the inf-norm; expected one, and the threat is {threat}"
        )


def check_folder(folder: Path) -> None:
    """Raises `HarpError` where something lies there already: properties of another eps would be taken for these."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarpError(f"{folder} is not empty; properties are written to an empty folder, or one that is not there")


def property_of(image: Tensor, label: int, classes: int, threat: Threat) -> Iterator[str]:
    """The lines of one property: a box around the image, and that some other class's logit is no less than `label`'s.

    A verifier that finds no such image ("unsat") has proved the answer. X are the pixels in the order of the tensor, Y
    the logits.
    """
    pixels = [Fraction(value) for value in image.double().flatten().tolist()]
    yield f"; class {label} of {classes}, {threat}, pixels from {threat.low:g} to {threat.high:g}"
    yield from (f"(declare-const X_{i} Real)" for i in range(len(pixels)))
    yield from (f"(declare-const Y_{i} Real)" for i in range(classes))
    for i, (low, high) in enumerate(box(pixels, threat)):
        yield f"(assert (>= X_{i} {decimal(low, math.floor)}))"
        yield f"(assert (<= X_{i} {decimal(high, math.ceil)}))"
    yield "(assert (or"
    yield from (f"  (and (>= Y_{other} Y_{label}))" for other in range(classes) if other != label)
    yield "))"


def box(pixels: Iterable[Fraction], threat: Threat) -> Iterator[tuple[Fraction, Fraction]]:
    """The least and the most that each pixel may be, exactly: eps is the number that is written, 8/255 or 0.031."""
    eps, least, most = Fraction(exact(threat.eps)), Fraction(threat.low), Fraction(threat.high)
    return ((max(least, pixel - eps), min(most, pixel + eps)) for pixel in pixels)


def decimal(value: Fraction, rounded: Callable[[Fraction], int]) -> str:
    """The number with up to `DIGITS` digits behind the point, rounded to them by `math.floor` or `math.ceil`."""
    steps = rounded(value * 10**DIGITS)
    whole, rest = divmod(abs(steps), 10**DIGITS)
    return f"{'-' if steps < 0 else ''}{whole}.{f'{rest:0{DIGITS}d}'.rstrip('0') or '0'}"
