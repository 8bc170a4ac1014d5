"""Tensors handed to a compiled segment: checked, because C takes an address at its word."""

from typing import Any

import torch
from torch import Tensor

from harp.errors import HarpError
from harp.runtime.calling import Caller


class TensorCaller(Caller):
    """A compiled segment from tensors to tensors."""

    def alone(self, x: Tensor) -> Tensor:
        """The one value it makes of the one it takes."""
        x, made = _floats(x, len(x) * self._sizes[0]), _empty((len(x), *self._tail))
        self._into[0], self._outof[0] = _address(x), _address(made)
        self._run(len(x))
        return made

    def __call__(self, values: dict[str, Any], images: int) -> None:
        named = zip(self.compiled.inputs, self._sizes, strict=True)
        given = [_floats(values[name], images * size) for name, size in named]
        for place, tensor in enumerate(given):
            self._into[place] = _address(tensor)
        for place, (name, shape) in enumerate(self._shapes.items()):
            made = values[name] = _empty((images * shape[0], *shape[1:]))
            self._outof[place] = _address(made)
        self._run(images)


def _floats(x: Tensor, size: int) -> Tensor:
    """`x` as C may read it: so many float32 numbers one after the other on the CPU; else raises `HarpError`."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or x.layout != torch.strided or x.numel() != size:
        raise HarpError(f"the sparse engine was handed {_form(x)}; expected {size} float32 numbers on the CPU")
    return x.resolve_neg().contiguous()


def _empty(shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _address(tensor: Tensor) -> int:
    """Where the numbers are; raises `HarpError` where there are none, as in FakeTensorMode and inside `torch.vmap`.

    C takes an address at its word, and a wrong one reads or writes elsewhere.
    """
    try:
        found = 0 if torch._C._is_tracing() else tensor.data_ptr()
    except RuntimeError:
        found = 0
    if not found:
        raise HarpError(
            "the sparse engine was handed a tensor without numbers of its own; call it outside of torch.func "
            "transforms, of torch.jit.trace, and of modes such as FakeTensorMode"
        )
    return found


def _form(x: Tensor) -> str:
    kind, layout = (str(value).removeprefix("torch.") for value in (x.dtype, x.layout))
    return f"{kind} {list(x.shape)} on {x.device} ({layout})"
