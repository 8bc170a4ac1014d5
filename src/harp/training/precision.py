"""Float32, bfloat16 or compiled: how a network computes while it trains. Its weights are float32 in every case."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from harp.errors import HarpError


@dataclass(frozen=True)
class Precision:
    """How forward and backward passes of training are computed; weights, optimizer and pruner stay float32.

    `channels_last`: weights laid out NHWC in memory, which makes convolutions compute so; values and names are
    unchanged. Images come as they are: converting them saves nothing, and random starts would be drawn in another
    order. `bf16`: autocast to bfloat16 where the network is attacked, in the optimizer's step, in both, or nowhere;
    losses are float32 of the network's bfloat16 logits. `compile`: `torch.compile`, one graph for each batch shape.
    `recompute`: activations inside the network's pieces are not held for the backward pass but computed again.

    Nothing but training is affected by `bf16` and `compile`: they act in the `view` that an objective is given, and
    who measures or saves the model itself sees float32, not compiled.
    """

    channels_last: bool = False
    bf16: Literal["none", "attack", "step", "both"] = "none"
    compile: bool = False
    recompute: bool = False

    def lay_out(self, model: nn.Module) -> nn.Module:
        """`model` itself, its parameters and buffers [o, i, h, w] in place in the layout; no value changes."""
        if self.channels_last:
            deep = [name for name, value in model.state_dict().items() if value.ndim == 5]
            if deep:
                raise HarpError(f"channels_last is for images, and {deep[0]} has five axes; set it to false")
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    def view(self, model: nn.Module) -> nn.Module:
        """What an objective is given: `model`, or a module around it with the same parameters and float32 logits.

        In train mode it computes as the step does, in eval mode as the attack does.
        """
        if self.bf16 == "none" and not self.compile:
            return model
        return View(model, attack=self.bf16 in ("attack", "both"), step=self.bf16 in ("step", "both"), one=self.compile)


FLOAT32 = Precision()


class View(nn.Module):
    """The logits of `model` as float32, computed under autocast to bfloat16 in eval mode (`attack`) or train mode.

    Each forward is an autocast region of its own and no backward is in one: autocast keeps cast weights until its
    region ends, so a weight may change (push, AWP) between any two forwards.
    """

    def __init__(self, model: nn.Module, *, attack: bool, step: bool, one: bool):
        super().__init__()
        self.model = model
        self.attack, self.step = attack, step
        # In a tuple, so that it is no second submodule.
        self._call: tuple[Callable[[Tensor], Tensor]] = (_compiled(model) if one else model,)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.step if self.training else self.attack):
            logits = self._call[0](x)
        return logits.float()


def _compiled(model: nn.Module) -> Callable[[Tensor], Tensor]:
    from torch._dynamo.exc import TorchDynamoException  # a second that only compiling needs

    # One graph, each shape apart: a fallback or a dynamic shape would begin at some step of the run, and a run
    # resumed after it would then compute with other kernels than one that was not.
    call: Any = torch.compile(model, fullgraph=True, dynamic=False)

    def logits(x: Tensor) -> Tensor:
        try:
            result: Tensor = call(x)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split("\n")[:2]).strip()
            raise HarpError(f"torch.compile could not compile the network; set compile to false: {reason}") from error
        return result

    return logits
