"""A faster copy of a network to search with, while the network itself judges what is found."""

import contextlib
import copy
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from harp.attacks.base import Attack, fits, guarded
from harp.attacks.losses import gradient
from harp.modes import evaluating
from harp.randomness import Noise, given
from harp.threats import Threat

# How far a copy's logits may be off, as a share of their size. Folding batch norm moves float32 logits by some 1e-6; a
# copy further off than this is another network.
CLOSE = 1e-4
# The same for gradients, which differ by far more: a ReLU's input next to 0 may round to the other side in a copy, and
# its whole part of the gradient is then there or gone.
STEEP = 0.1
EXAMPLES = 16  # images to compare them on


class Surrogate(nn.Module):
    """The logits of `original`, computed by a faster copy: [n, classes] for images [n, c, h, w], eval mode only.

    Attacks search with it, and ask `judge` for every verdict: a copy can miss adversarial images, not invent them. It
    lies channels-last in memory. Where the network can be traced, batch norms are folded into the convolutions before
    them and ReLUs work in place; on a CPU, queries without a gradient go through a frozen TorchScript graph, or, with
    `bf16`, all run under bfloat16 autocast. Copies of another make are taken where somebody offers some. `original`
    itself computes where it cannot be copied, and where
    on `example` the copy's float32 logits differ by more than 1e-4 of their size or its gradients by more than a tenth,
    as those of a randomised network do.
    """

    original: nn.Module
    quick: nn.Module
    blind: nn.Module | None

    def __init__(self, original: nn.Module, example: Tensor, bf16: bool = False, copies: "Copies | None" = None):
        super().__init__()
        copies = copies or Copies.of(original, example, bf16)
        # Not registered as submodules: the original keeps its modes, and a copy in eval mode stays there.
        self.__dict__.update(original=original, quick=copies.quick or original, blind=copies.blind)
        self.bf16, self.layout = bf16, copies.layout

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=self.layout)
        blind = self.__dict__["blind"]
        if blind is not None and not torch.is_grad_enabled():
            found: Tensor = blind(x)
            return found
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            logits: Tensor = self.__dict__["quick"](x)
        return logits.float() if self.bf16 else logits


@dataclass(frozen=True)
class Offered:
    """Copies of a network, made elsewhere: one with gradients of the images, one without."""

    quick: nn.Module
    blind: nn.Module


Offer = Callable[[nn.Module, Tensor], Offered | None]
"""Copies of a network in eval mode for images like the examples [n, c, h, w] in float32; None: no faster ones."""


@dataclass(frozen=True)
class Copies:
    """What a `Surrogate` computes with: `quick` with gradients, `blind` without; None is the original itself."""

    quick: nn.Module | None
    blind: nn.Module | None
    kind: tuple[object, ...]
    layout: torch.memory_format = torch.channels_last

    @classmethod
    def of(cls, original: nn.Module, example: Tensor, bf16: bool, offer: Offer | None = None) -> "Copies":
        """The fastest copies that agree with `original` on `example`: those of `offer` before its own."""
        if offer is not None and not bf16 and (made := _accepted(offer, original, example)) is not None:
            return cls(made.quick, made.blind, _kind(example), torch.contiguous_format)
        quick = _quick(original, example)
        return cls(quick, None if quick is None or bf16 else _frozen(quick, original, example), _kind(example))

    def agree(self, original: nn.Module, example: Tensor) -> bool:
        """Whether they are still copies of `original`, on images of the kind they were made for."""
        if self.kind != _kind(example):
            return False
        with torch.no_grad():
            return self.quick is None or _near(self.quick(example), original(example), CLOSE)


@dataclass(frozen=True)
class Quick:
    """`attack`, searching with a `Surrogate` of the network it is given, whose copies are made for the first batch."""

    attack: Attack
    bf16: bool = False
    offer: Offer | None = field(default=None, repr=False, compare=False)
    _made: list[tuple[weakref.ref[nn.Module], Copies]] = field(default_factory=list, repr=False, compare=False)

    def fits(self, x: Tensor, threat: Threat) -> None:
        """What the attack itself refuses."""
        fits(self.attack, x, threat)

    @guarded
    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, noise: Noise | None = None) -> Tensor:
        noise = given(noise, x)
        with evaluating(model):
            example = x[:EXAMPLES]
            copies = self._known(model, example) or Copies.of(model, example, self.bf16, self.offer)
            self._made[:] = [(weakref.ref(model), copies)]
            return self.attack(Surrogate(model, example, self.bf16, copies), x, y, threat, noise)

    def _known(self, model: nn.Module, example: Tensor) -> Copies | None:
        return next((made for known, made in self._made if known() is model and made.agree(model, example)), None)


def judge(model: nn.Module) -> nn.Module:
    """The network whose answer counts: `model`, or the original of a `Surrogate`."""
    original: nn.Module = model.__dict__["original"] if isinstance(model, Surrogate) else model
    return original


def _accepted(offer: Offer, model: nn.Module, example: Tensor) -> Offered | None:
    """What is offered, or None where there is nothing, or nothing that agrees with the network."""
    with evaluating(model), contextlib.suppress(Exception):  # a foreign network may refuse to be copied in any way
        made = offer(model, example)
        if made is None:
            return None
        with torch.no_grad():
            near = [_near(answer(example), model(example), CLOSE) for answer in (made.quick, made.blind)]
        if all(near) and _near(_slope(made.quick, example), _slope(model, example), STEEP):
            return made
    return None


def _quick(model: nn.Module, example: Tensor) -> nn.Module | None:
    """The fastest copy in eval mode with the same logits and gradients, or None where there is none."""
    for made in (_in_place, _folded, copy.deepcopy):
        with evaluating(model), contextlib.suppress(Exception):  # whatever a foreign network does to a copy
            quick: nn.Module = made(model).requires_grad_(False)
            quick = quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            with torch.no_grad():
                same = _near(quick(example), model(example), CLOSE)
            if same and _near(_slope(quick, example), _slope(model, example), STEEP):
                return quick
    return None


def _folded(model: nn.Module) -> nn.Module:
    # Imported late: it compiles some TorchScript, half a second that only a surrogate needs.
    from torch.fx.experimental.optimization import fuse

    return fuse(copy.deepcopy(model))


def _in_place(model: nn.Module) -> nn.Module:
    folded = _folded(model)
    for module in folded.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    return folded


def _frozen(quick: nn.Module, model: nn.Module, example: Tensor) -> nn.Module | None:
    """`quick` as a frozen graph for queries without a gradient, or None where there is none that agrees."""
    if example.device.type != "cpu":
        return None
    image = example.contiguous(memory_format=torch.channels_last)
    # A graph that remembers the batch it was traced with fails, or answers otherwise, on another.
    fewer = image[: max(1, len(image) // 2)]
    with evaluating(model), contextlib.suppress(Exception), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        graph: nn.Module = torch.jit.optimize_for_inference(torch.jit.freeze(torch.jit.trace(quick, image)))  # type: ignore[no-untyped-call]
        # Twice the fewer: the graph is made anew for a shape it has seen before.
        if all(_near(graph(part), model(part), CLOSE) for part in (image, fewer, fewer)):
            return graph
    return None


def _kind(example: Tensor) -> tuple[object, ...]:
    return tuple(example.shape[1:]), example.dtype, example.device


def _slope(model: nn.Module, example: Tensor) -> Tensor:
    """The gradient of the logits' sum of squares: a plain sum may not depend on the image."""
    image = example.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.enable_grad():
        total = model(image).square().sum()
    return gradient(total, image)


def _near(here: Tensor, there: Tensor, share: float) -> bool:
    return bool((here - there).norm() <= share * there.norm())
