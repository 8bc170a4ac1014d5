"""What a packed network may be asked: images of its shape, in its range, as numbers with a point."""

from harp.errors import HarpError
from harp.graph import FLOATS
from harp.package.manifest import Manifest


def check_images(given: tuple[int, ...], kind: str, shape: tuple[int, ...], manifest: Manifest) -> None:
    """Nothing, for a batch of images [n, *shape] in a floating-point `kind` of numbers; else raises `HarpError`."""
    if given == shape:
        raise HarpError(f"one image of shape {list(shape)}; expected a batch: x[None] is a batch of one")
    if given[1:] != shape or len(given) != len(shape) + 1:
        raise HarpError(f"images of shape {list(given)}; this network takes [n, {', '.join(map(str, shape))}]")
    if kind not in FLOATS:
        low, high = manifest.low, manifest.high
        hint = "; bytes are divided by 255 first" if kind == "uint8" and (low, high) == (0, 1) else ""
        raise HarpError(f"images are {kind}; expected floating point from {low:g} to {high:g}{hint}")
