"""Pull and push in a training loop that knows nothing of pruning: hooks around the optimizer's step."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from harp.ambient import pinned
from harp.errors import HarpError
from harp.pruners.gradients import check_gradients
from harp.pruners.method import Moment

if TYPE_CHECKING:
    from harp.pruners.base import Pruner

# Where it is true, torch's GradScaler leaves gradients as they are and sets `found_inf` on the optimizer: how a
# pruner notices a scaler, which knows the optimizer's parameters only and so would leave the sites' gradients scaled.
_TAKES_SCALED = "_step_supports_amp_scaling"

# Those not detached, as long as their optimizers live.
_LIVE: weakref.WeakSet[Attached] = weakref.WeakSet()


class Attached:
    """A pruner in somebody else's loop, until `detach` or the end of a `with`; see `Pruner.attach`."""

    @pinned()
    def __init__(self, pruner: Pruner, optimizer: Optimizer, start: int = 0):
        _check_parameters(pruner, optimizer)
        _check_free(pruner)
        self.pruner, self.optimizer, self.step = pruner, optimizer, start
        self._pulled = False
        self._renew()
        neighbour = _another_on(optimizer)
        self._takes_scaled: bool | None = neighbour._takes_scaled if neighbour else vars(optimizer).get(_TAKES_SCALED)
        setattr(optimizer, _TAKES_SCALED, True)
        on_sites = pruner.hooks()
        self._hooks = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
            *on_sites,
        ]
        # A loop that never detaches leaves the model a plain one, too, once its optimizer is gone.
        weakref.finalize(optimizer, _remove, on_sites).atexit = False
        _LIVE.add(self)

    def detach(self) -> None:
        """The optimizer is as it was; the model keeps the weights it has. A second time does nothing."""
        _LIVE.discard(self)
        if self._hooks and self._takes_scaled is None and _another_on(self.optimizer) is None:
            delattr(self.optimizer, _TAKES_SCALED)
        _remove(self._hooks)
        self._hooks = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()

    def _before(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if hasattr(optimizer, "found_inf"):
            raise HarpError("a GradScaler scales gradients the optimizer does not know; train in bfloat16 without one")
        if any(torch.is_autocast_enabled(site.param.device.type) for site in self.pruner.sites):
            raise HarpError("a step inside autocast, which keeps old weights; end the region before optimizer.step()")
        self._pulled = False
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if closure is None:
            self._pull()
            return None

        # Lightning's backward pass is in the closure, so the gradients do not exist before it.
        def evaluate() -> Any:
            loss = closure()
            self._pull()
            return loss

        return args[:1], {**kwargs, "closure": evaluate}

    @pinned()
    def _pull(self) -> None:
        if self._pulled:
            name = type(self.optimizer).__name__
            raise HarpError(f"{name} evaluates its closure more than once a step; expected an optimizer such as SGD")
        self._pulled = True
        penalty = self.pruner.penalty()
        if penalty.requires_grad:
            torch.autograd.backward(penalty)
        self.pruner.pull()
        try:
            check_gradients(self.pruner, self.optimizer, self.step + 1)
        except HarpError:
            self._renew()  # whoever catches it may go on with the next batch
            raise

    @pinned()
    def _after(self, optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.step += 1
        self._renew()

    @torch.enable_grad()
    def _renew(self) -> None:
        self.pruner.push(Moment(self.step, self.optimizer))
        # model.zero_grad knows no latents, optimizer.zero_grad no sites.
        for param in (*_latents(self.pruner), *(site.param for site in self.pruner.sites)):
            param.grad = None


def _remove(hooks: list[RemovableHandle]) -> None:
    for hook in hooks:
        hook.remove()


def _latents(pruner: Pruner) -> list[nn.Parameter]:
    return [param for role in pruner.trainables().values() for param in role.params]


def _check_parameters(pruner: Pruner, optimizer: Optimizer) -> None:
    held = {id(param) for group in optimizer.param_groups for param in group["params"]}
    for name, role in pruner.trainables().items():
        if any(id(param) not in held for param in role.params):
            raise HarpError(
                f"the optimizer does not train the pruner's {name}; harp.sgd(model, pruner) makes one that does"
            )
    latents = {id(param) for param in _latents(pruner)}
    for site in pruner.sites:
        if id(site.param) in held - latents:
            raise HarpError(
                f"the optimizer trains {site.name}, which the pruner computes; harp.sgd(model, pruner) makes one that "
                "does not"
            )


def _another_on(optimizer: Optimizer) -> Attached | None:
    return next((other for other in _LIVE if other.optimizer is optimizer), None)


def _check_free(pruner: Pruner) -> None:
    """Raises `HarpError` where a pruner that acts on one of the sites is attached already."""
    if not pruner.acts or _holder(pruner) is None:
        return
    gc.collect()  # an optimizer that nobody uses any more may still stand in a cycle with its hooks or its schedule
    if (held := _holder(pruner)) is not None:
        name, other = held
        raise HarpError(
            f"{name} has a {type(other.pruner).__name__} attached to a {type(other.optimizer).__name__} already; "
            "detach() that first, or attach it by `with pruner.attach(optimizer):`, whose end does so"
        )


def _holder(pruner: Pruner) -> tuple[str, Attached] | None:
    names = {id(site.param): site.name for site in pruner.sites}
    for other in _LIVE:
        # A search that was settled acts no more, and is refused should its loop go on all the same.
        if other.pruner.acts and (other.pruner is pruner or not other.pruner.ended):
            for site in other.pruner.sites:
                if id(site.param) in names:
                    return names[id(site.param)], other
    return None
