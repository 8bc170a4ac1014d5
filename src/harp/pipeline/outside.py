"""What a network knows outside its `state_dict`: no file holds it, so the next stage would work with another network.

A network rebuilt under the same seed cannot show it, since random draws in its constructor come out the same again.
One built under another seed that is given all the state must answer alike.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Number
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from harp.errors import HarpError
from harp.export.agreement import relative
from harp.modes import evaluating
from harp.pipeline.workspace import Workspace
from harp.randomness import seed_of

IMAGES = 64
TOLERANCE = 1e-5  # of the largest logit: equal kernels give equal bits, but tensors may lie elsewhere in memory
OTHER = "another draw"
_NAMED = 5
_DEEPEST = 4


def check_network(work: Workspace) -> None:
    """Raises `HarpError` where the recipe's network answers by more than its `state_dict`: now, not after training.

    It is tried after a pass in training mode, so that what only training moves has moved.
    """
    # Other images than those compared: a network that sets itself by the first batch would set itself alike.
    model, (seen, images) = work.model(), _images(work).tensor_split(2)
    with _seeded(work), torch.no_grad():
        model.train()(seen)
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise HarpError(f"{work.recipe.model.name}: {name} in its state_dict is no tensor, and files hold no other")
    other = work.model(OTHER)
    other.load_state_dict(model.state_dict())
    _compare(work, model, other, images, work.recipe.model.name)


def check_file(work: Workspace, model: nn.Module, path: Path, small: bool) -> None:
    """Raises `HarpError` where the file `path`, read into a network of other draws, is not the network `model`."""
    _compare(work, model, work.loaded(path, small, OTHER), _images(work), str(path))


def _images(work: Workspace) -> Tensor:
    images, _ = next(iter(work.in_order(work.split.train, IMAGES).once()))
    return images


def _compare(work: Workspace, model: nn.Module, other: nn.Module, images: Tensor, what: str) -> None:
    first, again, second = (_answers(work, network, images) for network in (model, model, other))
    if not torch.equal(first, again) or relative(second, first) <= TOLERANCE:
        return  # what is random at every call cannot be compared
    names = list(differing(model, other))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    found = f"{', '.join(names[:_NAMED])}{more}" if names else "nothing its modules hold; perhaps a global variable"
    raise HarpError(
        f"{what}: the network's answers depend on what its state_dict does not hold ({found}), so that no file of it "
        "is the network; hold it in parameters or buffers (register_buffer), or compute it from fixed numbers"
    )


def _answers(work: Workspace, model: nn.Module, images: Tensor) -> Tensor:
    with _seeded(work), torch.no_grad(), evaluating(model):
        logits: Tensor = model(images)
    return logits.nan_to_num()


@contextmanager
def _seeded(work: Workspace) -> Iterator[None]:
    with torch.random.fork_rng([work.device] if work.device.type == "cuda" else []):
        torch.manual_seed(seed_of(work.recipe.seed, "outside"))
        yield


def differing(first: nn.Module, second: nn.Module) -> Iterator[str]:
    """Names of what two networks of one class hold outside their state and differ in.

    Plain tensors, arrays, numbers and texts that are attributes of modules, in containers and objects, too, and buffers
    that are not persistent.
    """
    others = dict(second.named_modules())
    for name, module in first.named_modules():
        held, there = _held(module), _held(others[name]) if name in others else {}
        for key in sorted({*held, *there}):
            if not (key in held and key in there and _same(held[key], there[key], _DEEPEST)):
                yield f"{name}.{key}" if name else key


def _held(module: nn.Module) -> dict[str, Any]:
    own = {key: value for key, value in vars(module).items() if key not in _PYTORCHS}
    hidden = module._non_persistent_buffers_set
    return {**own, **{key: value for key, value in module._buffers.items() if key in hidden}}


_PYTORCHS = frozenset(vars(nn.Module()))


def _same(first: Any, second: Any, depth: int) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and bool(torch.equal(first.nan_to_num(), second.nan_to_num()))
    if isinstance(first, numpy.ndarray) and isinstance(second, numpy.ndarray):
        return numpy.array_equal(first, second)
    if isinstance(first, Number | str | bytes | None) or type(first) is not type(second):
        return type(first) is type(second) and (first == second or first != first)
    if isinstance(first, nn.Module) or callable(first) or not depth:
        return True  # modules have a turn of their own
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second, [depth - 1] * len(first)))
    held, there = (value if isinstance(value, Mapping) else getattr(value, "__dict__", {}) for value in (first, second))
    return held.keys() == there.keys() and all(_same(held[key], there[key], depth - 1) for key in held)
