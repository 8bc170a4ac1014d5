"""What a network costs: multiply-accumulates per weight from one traced forward pass, and the price of a selection."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from harp.ambient import precise, usable
from harp.modes import evaluating
from harp.wrappers import unwrapped

Vector = NDArray[numpy.float64]


@dataclass(frozen=True)
class Cost:
    """The price of keeping u units in each layer group: constant + linear . u + u' quadratic u.

    Keeping single weights costs in proportion (no quadratic part); a channel shortens the layer that makes it and the
    one that reads it, so channels cost products. `linear` has shape [groups], `quadratic` [groups, groups].
    """

    constant: float
    linear: Vector
    quadratic: Vector | None = None

    def __call__(self, units: Sequence[float] | Vector) -> float:
        """The price of so many units in each layer group; they need not be integers."""
        u = numpy.asarray(units, dtype=numpy.float64)
        price = self.constant + float(self.linear @ u)
        return price if self.quadratic is None else price + float(u @ self.quadratic @ u)

    def slopes(self, units: Sequence[float] | Vector) -> Vector:
        """The derivative of the price by each layer group's units, shape [groups]."""
        if self.quadratic is None:
            return self.linear
        u = numpy.asarray(units, dtype=numpy.float64)
        slopes: Vector = self.linear + (self.quadratic + self.quadratic.T) @ u
        return slopes

    def step(self, units: Sequence[float] | Vector, group: int, change: int) -> float:
        """By how much the price rises when `group` holds `change` units more."""
        own = 0.0 if self.quadratic is None else float(self.quadratic[group, group])
        return change * float(self.slopes(units)[group]) + change**2 * own

    def nexts(self, units: Sequence[float] | Vector) -> Vector:
        """By how much the price rises with one unit more, for each layer group, shape [groups]."""
        slopes = self.slopes(units)
        return slopes if self.quadratic is None else slopes + numpy.diagonal(self.quadratic)

    def tensor(self, units: Tensor) -> Tensor:
        """The price of `units`, shape [groups], differentiable, in their dtype."""
        price = self.constant + (units * torch.as_tensor(self.linear).to(units)).sum()
        return price if self.quadratic is None else price + units @ torch.as_tensor(self.quadratic).to(units) @ units


@dataclass(frozen=True)
class Latency:
    """Processor cycles of one image in the engine: of kept weights, where about as few are left as a budget allows.

    `whole` is what the network costs with all of its weights, which run by other kernels and lie on no line with that.
    """

    cost: Cost
    whole: float


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts multiply-accumulates by the parameter that took part; a view counts as the parameter it looks into."""

    def __init__(self, owners: Mapping[int, str]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.owners = owners
        self.macs: dict[str | None, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        formula: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
        if formula is not None:
            tensors = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, Tensor)]
            owner = next((self.owners[p] for t in tensors if (p := _storage(t)) in self.owners), None)
            flops = formula(*args, **(kwargs or {}), out_val=out)
            self.macs[owner] = self.macs.get(owner, 0) + flops // 2
        return out


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@precise()
def trace_macs(model: nn.Module, example: Tensor) -> dict[str | None, int]:
    """Multiply-accumulates per image by the name of the parameter that multiplies, from one pass over `example`.

    `example` float [n, c, h, w] of any content. None stands for products without a parameter, such as attention's. Of
    a tied parameter the first name counts. Biases, norms and activations cost nothing here, as is customary.
    """
    model = unwrapped(model)
    owners: dict[int, str] = {}
    for name, param in model.named_parameters():
        if param.ndim >= 2:
            owners.setdefault(_storage(param), name)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused call, it would hide who multiplies
    try:
        # Fused attention on a CPU is an operator without a formula; as plain products it has one on every device.
        with evaluating(model), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _Trace(owners) as trace:
            model(usable(example))
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return {name: macs // len(example) for name, macs in trace.macs.items()}
