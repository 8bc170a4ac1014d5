"""Whether every class can be reached from an image through the weights that are left, and swaps that see to it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from harp.copies import copied
from harp.errors import HarpError
from harp.sparsity.masks import Masks
from harp.sparsity.sites import Sites

_NORM = re.compile(r".*(Norm|GRN)(Base|\d*d)?")
WEAK, NEW = (
    0.1,
    0.1,
)  # the least strength of a weight beside its layer's largest; what a pruned one counts beside others


class Flow:
    """What reaches each logit of a network from an image, a number above 0 where a path of weights leads there.

    It is asked of a copy in which nothing is negative and nothing begins on the way: biases are 0, what is no site is
    positive, norms hand on what they get, and each layer takes means, so that deep networks stay within float64. Raises
    `HarpError` for a network that has a logit no path leads to with all its weights, as far as this can be followed.
    """

    def __init__(self, model: nn.Module, sites: Sites, image: Tensor):
        self.model = copied(model).cpu().double().eval()
        self.image = torch.ones_like(image[:1], dtype=torch.float64, device="cpu")
        self.fans = {site.name: site.size / site.param.shape[site.out_axis] for site in sites}
        with torch.no_grad():
            for name, param in self.model.named_parameters():
                param.fill_(0.0 if name.endswith("bias") else len(param) / param.numel() if param.ndim > 1 else 1.0)
        for module in self.model.modules():
            if _NORM.fullmatch(type(module).__name__):
                module.forward = _handed_on
        whole = {site.name: torch.ones(site.param.shape, dtype=torch.float64) for site in sites}
        if not bool((self.reach(whole) > 0).all()):
            raise HarpError(
                f"connect: not every logit of {type(model).__name__} can be reached by a path that is followed here, "
                "even with all its weights, so it has to be false"
            )

    def reach(self, strengths: Mapping[str, Tensor]) -> Tensor:
        """What reaches each logit, float64 [classes], through weights of these strengths (at least 0), by site."""
        given = {name: strength / self.fans[name] for name, strength in strengths.items()}
        logits: Tensor = functional_call(self.model, given, (self.image,))
        return logits[0]

    def path(self, label: int, strengths: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of one way to the logit, bool by site, one or none of each; those on strong ways come first."""
        left, found = dict(strengths), {name: torch.zeros_like(s, dtype=torch.bool) for name, s in strengths.items()}
        # From the logits backwards, each choice under those made: what is chosen always leads on to the image.
        for name in reversed(list(strengths)):
            here = left[name].clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.reach({**left, name: here})[label], here)
            through = (slope * left[name]).flatten()
            left[name] = torch.zeros_like(left[name])
            if float(through.max()) > 0:
                at = int(through.argmax())
                found[name].view(-1)[at] = True
                left[name].view(-1)[at] = strengths[name].flatten()[at]
        return found


def connect(
    flow: Flow, masks: Masks, strengths: Mapping[str, Tensor], elsewhere: bool = True
) -> tuple[Masks, Sequence[int]]:
    """Masks of as many weights under which every class is reached, and the classes for which weights were swapped.

    `strengths` are magnitudes by site. A class that is not reached gets one way there, along weights that stay anyway
    and strong ones; for each weight that comes the weakest goes that no class needs, of the same layer, or of others
    where that has none to spare and `elsewhere` allows it. Raises `HarpError` where the budget is too small for that.
    """
    there = {name: mask.cpu() for name, mask in masks.items()}
    ranks = {name: (s.cpu().double() / s.max().clamp(min=1e-30)).clamp(min=WEAK) for name, s in strengths.items()}
    taken = {name: torch.zeros_like(mask) for name, mask in there.items()}
    cut_off = (flow.reach({name: mask.double() for name, mask in there.items()}) <= 0).nonzero().flatten().tolist()
    for label in cut_off:
        kept = {name: there[name] | taken[name] for name in there}
        path = flow.path(label, {name: torch.where(kept[name], 1.0, NEW) * ranks[name] for name in there})
        taken = {name: taken[name] | path[name] for name in there}
    come = {name: int((taken[name] & ~there[name]).sum()) for name in there}
    there = {name: there[name] | taken[name] for name in there}
    missing = 0
    for name, count in come.items():
        missing += count - _spared(flow, there, taken, ranks, name, count)
    for name in there if elsewhere else ():
        missing -= _spared(flow, there, taken, ranks, name, missing)
    if missing:
        raise HarpError(
            f"connect: {len(cut_off)} classes cannot be reached, and their paths need {missing} weights more than the "
            "budget has to spare; raise keep or floor"
        )
    return Masks({name: there[name].to(mask.device) for name, mask in masks.items()}), cut_off


def _spared(
    flow: Flow,
    there: dict[str, Tensor],
    taken: Mapping[str, Tensor],
    ranks: Mapping[str, Tensor],
    name: str,
    count: int,
) -> int:
    """How many of `count` weights of the layer could go, the weakest first, without a class being cut off."""
    gone = 0
    spare = there[name] & ~taken[name]
    for at in ranks[name].masked_fill(~spare, torch.inf).flatten().argsort(stable=True)[: int(spare.sum())].tolist():
        # A layer keeps at least one weight.
        if gone == count or int(there[name].sum()) == 1:
            break
        there[name].view(-1)[at] = False
        if bool((flow.reach({key: mask.double() for key, mask in there.items()}) > 0).all()):
            gone += 1
        else:
            there[name].view(-1)[at] = True
    return gone


def _handed_on(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x
