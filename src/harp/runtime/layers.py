"""What the sparse engine knows how to run, layer by layer, with shapes worked out for one image."""

from dataclasses import dataclass, replace
from typing import Literal

Shape = tuple[int, int, int]  # channels, height, width
Kind = Literal["conv", "linear", "pool", "mean", "add", "scale", "activate", "cat"]


@dataclass(frozen=True)
class Act:
    """An activation: its name, and the bounds of `clamp` or the slope (as `low`) of `leaky` and `elu`."""

    name: str = "none"
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Window:
    """What a convolution or pooling looks at; all of (vertical, horizontal)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Layer:
    """One step: from the values `inputs` to the value `name`, both by name in the graph.

    A convolution or linear layer may add a second input to its result (`inputs[1]`, a residual) before the activation,
    and a convolution take the maximum of each 2 x 2 after it (`halved`).
    """

    kind: Kind
    name: str
    inputs: tuple[str, ...]
    shape: Shape
    act: Act = Act()
    window: Window = Window((1, 1))
    groups: int = 1
    weight: str = ""
    bias: str = ""
    average: bool = False
    count_pad: bool = False
    halved: bool = False

    def then(self, other: "Layer") -> "Layer":
        """This layer with an activation layer made part of it."""
        return replace(self, name=other.name, act=other.act)

    @property
    def swept(self) -> Shape:
        """Channels, height and width of what is computed before the maximum of each 2 x 2, if that is taken."""
        channels, height, width = self.shape
        return (channels, 2 * height, 2 * width) if self.halved else self.shape

    def plus(self, other: "Layer") -> "Layer":
        """This layer with an addition made part of it, which adds its other operand."""
        first, second = other.inputs
        return replace(self, name=other.name, inputs=(*self.inputs, second if first == self.name else first))
