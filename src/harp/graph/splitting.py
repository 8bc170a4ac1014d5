"""Operators that stand for others, taken apart by PyTorch's own rules, as far as no graph may use them."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from harp.graph.translate import known, random

# What a rule leaves may be taken apart once more: cosine similarity, norms, products.
_ROUNDS = 4
_aten = torch.ops.aten


def split(program: Any) -> Any:
    """The exported program in which every operator is one that a graph may use, or has no rule to be taken apart by.

    All others stay whole, so that a convolution is a convolution, and a network of such operators gives the same bits.
    """
    program = program.run_decompositions(dict(_OWN))
    for _ in range(_ROUNDS):
        strange = set(_strange(program))
        rules = _rules() if strange else {}
        table = {target: rules[target] for target in strange if target in rules}
        if not table:
            break
        program = program.run_decompositions(table | _OWN)
    return program


@cache
def _rules() -> dict[Any, Callable[..., Any]]:
    table: Any = torch.export.default_decompositions()
    return dict(table.items())  # all of it made once, which takes a second


def _strange(program: Any) -> Iterator[Any]:
    for node in program.graph.nodes:
        if node.op == "call_function" and not known(node) and not random(node):
            yield node.target


def _std_mean(x: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    return _std_mean_by(x, dim, correction=int(unbiased), keepdim=keepdim)


def _std_mean_by(
    x: Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(x, dim, correction=1 if correction is None else correction, keepdim=keepdim)
    return var.sqrt(), mean


def _any(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    for axis in sorted((d % x.dim() for d in (range(x.dim()) if dim is None else dim)), reverse=True):
        x = x.any(axis, keepdim)
    return x


def _one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 1:
        raise NotImplementedError("one_hot without a number of classes, which the values would decide")
    return (labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)).to(torch.int64)


def _rrelu(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, _: Any = None) -> Tensor:
    if training:
        raise NotImplementedError("rrelu that draws its slopes in eval mode")
    return torch.nn.functional.leaky_relu(x, (lower + upper) / 2)


# Where PyTorch has no rule, or one that fails.
_OWN: dict[Any, Callable[..., Any]] = {
    _aten.std_mean.dim: _std_mean,
    _aten.std_mean.correction: _std_mean_by,
    _aten.any.dims: _any,
    _aten.one_hot.default: _one_hot,
    _aten.rrelu.default: _rrelu,
}
