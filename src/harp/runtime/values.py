"""How the engine holds a graph's values, and which of them it can hold."""

from dataclasses import dataclass

from harp.graph import ArrayGraph, Blank, Unknown, propagated
from harp.runtime.layers import Shape


@dataclass(frozen=True)
class Spec:
    """How the engine holds a value: `map` [n, c, h, w], `vector` [n, c] or `tokens` [..., c], c planes each."""

    form: str
    shape: Shape


def led_by_images(graph: ArrayGraph, unknown: Unknown | None = None) -> tuple[int, dict[str, tuple[int, ...]]]:
    """A number of images, and for so many the shapes of all float32 tensors whose first axis, alone, is that of images.

    The graph's own tensors are among them. `unknown` tells shapes that no rule does (None: PyTorch).
    """
    batch = 2 if graph.batch is None else graph.batch
    found = _shapes(graph, batch, unknown)
    if graph.batch is None:
        more = _shapes(graph, batch + 1, unknown)
        found = {n: s for n, s in found.items() if n in graph.tensors or _led(s, more.get(n), batch)}
    return batch, found


def _shapes(graph: ArrayGraph, batch: int, unknown: Unknown | None) -> dict[str, tuple[int, ...]]:
    """Of every float32 tensor in the graph its shape for so many images."""
    found = ((name, value) for name, value in propagated(graph, batch, unknown) if isinstance(value, Blank))
    return {name: value.shape for name, value in found if value.dtype == "float32"}


def _led(shape: tuple[int, ...], more: tuple[int, ...] | None, batch: int) -> bool:
    """Whether the images lie along the first axis and along no other: `more` is the shape for one image more."""
    if not shape or not more or shape[0] % batch:
        return False
    return more == (shape[0] // batch * (batch + 1), *shape[1:])
