"""Channels that can only go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Slice:
    name: str
    axis: int
    owner: Tensor


@dataclass(frozen=True, eq=False)
class Group:
    name: str
    size: int
    members: tuple[Slice, ...]
    consumers: tuple[Slice, ...]


@dataclass(frozen=True)
class Channels:
    groups: tuple[Group, ...]
    fixed: Mapping[str, str]


def find_channels(model: nn.Module, example: Tensor) -> Channels:
    raise NotImplementedError


def remove(model: nn.Module, groups: tuple[Group, ...], keep: Mapping[str, Tensor]) -> nn.Module:
    raise NotImplementedError


def resize(model: nn.Module, shapes: Mapping[str, Any]) -> None:
    raise NotImplementedError
