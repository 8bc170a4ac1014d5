"""MAD: pruning by what adversarial images make of weights that are masked (Lee, Kim & Ro, CVPR 2022)."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, softplus

from harp.ambient import pinned
from harp.config.values import Count, Positive
from harp.errors import HarpError
from harp.models import opened
from harp.modes import evaluating
from harp.pruners.base import METHODS, like
from harp.pruners.method import Course, Moment, Options, Scoring
from harp.pruners.moving import MovingMasks
from harp.runs import Tree
from harp.sparsity import Budget, Site, Sites, Units, largest
from harp.wrappers import unwrapped

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# softplus of these is 1 and 1e-4: masks lie between.
WHOLE, LEAST = math.log(math.e - 1), math.log(math.expm1(1e-4))


class MADOptions(Options):
    """What `mad` can be told."""

    order: Literal["signed", "size"] = "signed"
    """which weights go first: those of the lowest saliency, as published, or of the one nearest to 0"""
    mask_steps: Count = 20
    """steps of Adam on the soft masks of each batch"""
    mask_lr: Positive = 0.1
    """their learning rate"""


@METHODS.register("mad")
class MAD(MovingMasks):
    """MAD: what masking a weight does to the loss on adversarial images ranks it (Lee, Kim & Ro, CVPR 2022).

    One pass over the stage's images, in eval mode. For each batch soft masks m in [1e-4, 1] over all weights learn by
    Adam to lower the cross-entropy of the adversarial images; then the loss's second-order term of dw = w - m w, with
    the curvature of a layer as a product A x G of the layer's inputs and of its outputs' gradients, gives each weight
    its saliency. These are averaged over the batches. All layers are cut by one ranking, the lowest, most negative
    ones first (retrained for 60 epochs at .1). No step of the stage trains.

    Departures (METHODS 2.4): the last layer stands in the ranking with the others, where the paper cuts each of its
    rows apart; biases are neither masked nor pruned; a soft mask at its upper end is exactly 1, so that a weight
    nobody touched has saliency 0. For single weights of linear layers and convolutions; raises `HarpError` for others,
    for a budget below the floors, and where masks are wanted before `prepare` has seen images.
    """

    takes = MADOptions

    def __init__(
        self, what: Sites | Units, budget: Budget, *, options: MADOptions | None = None, course: Course | None = None
    ):
        super().__init__(what, budget)
        if self.units.kind != "weights":
            raise HarpError("mad ranks single weights; prune channels by another method")
        for site in self.sites:
            _check_kind(site, None if site.place is None else site.place.module)
        budget.floors(self.units.sizes, self.units.cost(budget.of))
        self.options = options or MADOptions()
        self.saliency: dict[str, Tensor] = {}
        self._cut = False

    @classmethod
    def steps(cls, options: Options, course: Course) -> int:
        return 0

    @pinned()
    def prepare(self, scoring: Scoring) -> None:
        model = unwrapped(scoring.model)
        layers = {site.name: _layers(site, model) for site in self.sites}
        total = {site.name: torch.zeros_like(site.param) for site in self.sites}
        batches = 0
        for x, y in scoring.batches():
            with evaluating(model), opened(model):
                masks = self.soft_masks(model, x, y)
                for name, saliency in self._saliency(model, layers, masks, x, y).items():
                    total[name] += saliency
            batches += 1
        if not batches:
            raise HarpError("mad was given no images to rank weights by: harp.Scoring(..., batches=...) gives them")
        self.saliency = {name: saliency / batches for name, saliency in total.items()}

    def soft_masks(self, model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
        """The m in [1e-4, 1] of the weights, one tensor a site, that lower the cross-entropy of `x` with labels `y`."""
        logits = [torch.full_like(site.param, WHOLE).requires_grad_() for site in self.sites]
        adam = torch.optim.Adam(logits, lr=self.options.mask_lr)
        for _ in range(self.options.mask_steps):
            loss = cross_entropy(functional_call(model, self._masked(model, map(softplus, logits)), (x,)), y)
            for logit, grad in zip(logits, torch.autograd.grad(loss, logits), strict=True):
                logit.grad = grad
            adam.step()
            with torch.no_grad():
                for logit in logits:
                    logit.clamp_(LEAST, WHOLE)
        # softplus itself rounds to just below 1, which would rank weights that no step has moved.
        found = [logit.detach() for logit in logits]
        return [softplus(logit).masked_fill(logit >= torch.full_like(logit, WHOLE), 1.0) for logit in found]

    def _masked(self, model: nn.Module, masks: Iterable[Tensor]) -> dict[str, Tensor]:
        names = {param: name for name, param in model.named_parameters()}
        return {names[site.param]: site.param.detach() * mask for site, mask in zip(self.sites, masks, strict=True)}

    def _saliency(
        self,
        model: nn.Module,
        layers: Mapping[str, list[nn.Module]],
        masks: list[Tensor],
        x: Tensor,
        y: Tensor,
    ) -> dict[str, Tensor]:
        weights = {name: weight.requires_grad_() for name, weight in self._masked(model, masks).items()}
        with _noted(layers) as calls:
            loss = cross_entropy(functional_call(model, weights, (x,)), y, reduction="sum")
        slopes = iter(torch.autograd.grad(loss, [output for found in calls.values() for _, _, output in found]))
        saliency = {}
        for site, mask in zip(self.sites, masks, strict=True):
            if not calls[site.name]:
                raise HarpError(f"mad: {site.name} took part in no call of its layer, so it has no inputs; exclude it")
            change = site.param.detach() * (1 - mask)
            parts = [damage(layer, change, inputs, next(slopes)) for layer, inputs, _ in calls[site.name]]
            saliency[site.name] = torch.stack(parts).sum(0)
        return saliency

    def push(self, moment: Moment) -> None:
        if not self._cut:
            self.move(self.final())
            self._cut = True
        super().push(moment)

    def final(self) -> dict[str, Tensor]:
        if not self.saliency:
            raise HarpError("mad ranks weights by training images: prepare(harp.Scoring(...)) comes first")
        size = self.options.order == "size"
        return largest(self.units, self.budget, {n: s.abs() if size else s for n, s in self.saliency.items()})

    def state_dict(self) -> Tree:
        return {**super().state_dict(), "saliency": self.saliency, "cut": self._cut}

    def load_state_dict(self, state: Tree) -> None:
        super().load_state_dict(state)
        found = state["saliency"]
        own = {site.name: site.param for site in self.sites} if found else {}
        self.saliency = {name: like(own, found)[name].to(param.device) for name, param in own.items()}
        self._cut = state["cut"]


def damage(layer: nn.Module, change: Tensor, inputs: Tensor, slopes: Tensor) -> Tensor:
    """The saliency G_ii dw_ij (dw_i A)_j / 2 of each weight of `layer`, in its shape.

    A = E[a a'] / S of the layer's `inputs` and G_ii = S^2 E[g_i^2] of `slopes`, the gradient of each image's own loss
    at the output; means over the n images and over the S places of an output.
    """
    change = change.clone().requires_grad_()
    own = {name: torch.zeros_like(bias) for name, bias in layer.named_parameters(recurse=False) if name == "bias"}
    # Half of the square of dw a has the gradient (dw a) a': no matrix A is ever made, whatever kind of layer it is.
    moved = functional_call(layer, {"weight": change, **own}, (inputs,))
    (pulled,) = torch.autograd.grad(moved.square().sum() / 2, change)
    axis = moved.ndim - 1 if isinstance(layer, nn.Linear) else 1
    places = moved.numel() // (len(moved) * moved.shape[axis])
    slopes = slopes.square().mean([other for other in range(moved.ndim) if other != axis])
    curvature = places**2 * slopes.view(-1, *[1] * (change.ndim - 1))
    saliency: Tensor = curvature * change.detach() * pulled / (2 * len(moved) * places**2)
    return saliency


Calls = dict[str, list[tuple[nn.Module, Tensor, Tensor]]]


@contextmanager
def _noted(layers: Mapping[str, list[nn.Module]]) -> Iterator[Calls]:
    """Within it every call of `layers` is noted by site: the layer, its inputs and its outputs."""
    calls: Calls = {name: [] for name in layers}

    def note(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
            inputs: Tensor = (*args, *kwargs.values())[0]
            calls[name].append((layer, inputs.detach().clone(), output))
            return output.clone()  # what comes next may work in place

        return hook

    handles = [
        layer.register_forward_hook(note(name), with_kwargs=True) for name, found in layers.items() for layer in found
    ]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _layers(site: Site, model: nn.Module) -> list[nn.Module]:
    """The layers that hold the weight, several where it is tied."""
    found = [layer for layer in model.modules() if any(own is site.param for own in layer._parameters.values())]
    for layer in found:
        _check_kind(site, layer)
    return found


def _check_kind(site: Site, layer: nn.Module | None) -> None:
    if layer is not None and not isinstance(layer, LAYERS):
        raise HarpError(
            f"mad ranks the weights of linear layers and convolutions; {site.name} is a {type(layer).__name__}'s, so "
            "exclude it or prune by another method"
        )
