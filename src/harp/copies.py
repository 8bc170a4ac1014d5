"""A deep copy of any network, also of one that keeps what it computed."""

import copy
import gc
from collections.abc import Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType

from torch import Tensor, nn

from harp.errors import HarpError
from harp.modes import evaluating

# deepcopy hands these on as they are, so what hangs on them is not copied and need not be looked at.
_SHARED = (type, FunctionType, BuiltinFunctionType, ModuleType, CodeType)


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of a network: its class, modes, hooks and tied tensors; activations it keeps lose their graph.

    Raises `HarpError` where an attribute cannot be copied.
    """
    with evaluating(model):
        pass  # by way of train(), which drops what a module has cached of its weights
    try:
        return copy.deepcopy(model)
    except RuntimeError:
        # PyTorch copies no tensor that hangs in a graph, such as a feature map kept for a hook to look at.
        kept = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
        return _copy(model, kept)
    except Exception as error:
        raise _refusal(model, error) from error


def _copy(model: nn.Module, known: dict[int, Tensor]) -> nn.Module:
    try:
        return copy.deepcopy(model, dict(known))
    except Exception as error:
        raise _refusal(model, error) from error


def _refusal(model: nn.Module, error: Exception) -> HarpError:
    reason = str(error).strip().partition("\n")[0]
    return HarpError(
        f"{type(model).__name__} cannot be copied ({type(error).__name__}: {reason[:200]}); keep out of its attributes "
        "what copy.deepcopy refuses"
    )


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Tensors with a graph behind them in anything that hangs on the network."""
    seen: set[int] = set()
    queue: list[object] = [model]
    while queue:
        thing = queue.pop()
        if id(thing) in seen or isinstance(thing, _SHARED):
            continue
        seen.add(id(thing))
        if not isinstance(thing, Tensor):
            queue += gc.get_referents(thing)
            continue
        if thing.grad_fn is not None:
            yield thing
        else:
            queue += [vars(thing), thing.grad]
