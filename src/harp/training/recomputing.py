"""Activations that are computed a second time in the backward pass instead of being held until then."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from harp.errors import HarpError

ROW = 6  # a row of fewer layers is one piece


def pieces(model: nn.Module) -> dict[nn.Module, int]:
    """What a network is built of, and in how many parts each piece is worked through.

    Pieces are modules of several layers that stand in an nn.Sequential or nn.ModuleList, the outermost ones, and long
    nn.Sequentials of single layers, in about the square root of their length parts. Raises `HarpError` for a network
    that has neither.
    """
    found: dict[nn.Module, int] = {}
    _gather(model, found)
    if not found:
        raise HarpError(
            f"recompute: {type(model).__name__} has no modules of several layers in an nn.Sequential or nn.ModuleList, "
            "which could be computed again as a whole; set it to false, and accumulate above 1 for less memory"
        )
    return found


def _gather(module: nn.Module, found: dict[nn.Module, int], in_row: bool = False) -> None:
    parts = list(module.children())
    if isinstance(module, nn.Sequential) and len(parts) >= ROW and not any(map(_several, parts)):
        found[module] = math.isqrt(len(parts))
    elif in_row and parts and not any(map(_is_row_of_pieces, module.modules())):
        found[module] = 1
    else:
        for part in parts:
            _gather(part, found, isinstance(module, nn.Sequential | nn.ModuleList))


def _is_row_of_pieces(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential | nn.ModuleList) and any(map(_several, module.children()))


def _several(module: nn.Module) -> bool:
    return any(True for _ in module.children())


@contextmanager
def recomputed(model: nn.Module, wanted: bool = True) -> Iterator[None]:
    """Inside, pieces of the network hold what goes into them, and compute the rest anew for the backward pass.

    Every number is as without it, running statistics and dropout's draws included; memory is that of one piece and of
    what goes into each, for one more forward pass (Chen et al., 2016). Raises `HarpError` as `pieces` does.
    """
    found = pieces(model) if wanted else {}
    before = {module: vars(module).get("forward") for module in found}
    for module, parts in found.items():
        module.forward = partial(_twice, module, module.forward, parts)
    try:
        yield
    finally:
        for module, own in before.items():
            del module.forward
            if own is not None:
                module.forward = own


def _twice(module: nn.Module, forward: Any, parts: int, *args: Any, **options: Any) -> Any:
    if not is_grad_enabled():
        return forward(*args, **options)
    contexts = partial(_contexts, module)
    if parts == 1:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **options)
    layers, (x,) = list(module.children()), args
    length = math.ceil(len(layers) / parts)
    for first in range(0, len(layers), length):
        x = checkpoint(_through, layers[first : first + length], x, use_reentrant=False, context_fn=contexts)
    return x


def _through(layers: list[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _remembering_nothing(module)


@contextmanager
def _remembering_nothing(module: nn.Module) -> Iterator[None]:
    """Within it batch norms' statistics move in copies: the first pass has moved them."""
    norms = [inner for inner in module.modules() if isinstance(inner, _BatchNorm)]
    held = [dict(norm._buffers) for norm in norms]
    try:
        for norm in norms:
            norm._buffers.update({name: None if b is None else b.clone() for name, b in norm._buffers.items()})
        yield
    finally:
        for norm, buffers in zip(norms, held, strict=True):
            norm._buffers.update(buffers)
