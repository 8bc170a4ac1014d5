"""Untrained networks of timm and torchvision: `timm:NAME`, `torchvision:NAME`."""

import re
from collections.abc import Callable
from typing import Any

from torch import nn

from harp.errors import HarpError, choices
from harp.extras import need
from harp.models.base import Size


def build_timm(source: str, *, classes: int, channels: int, size: Size) -> nn.Module:
    """timm's network of that name for images of `size` pixels, where it has a fixed size.

    Raises `HarpError` where timm cannot be imported, for a name that `timm.list_models()` has not, and for a network
    that cannot be made for such images.
    """
    timm, name = need("timm", "timm", f"model {source!r}"), source.partition(":")[2]
    _check_name(source, name, timm.list_models())
    options = {"img_size": size}
    return _made(
        source,
        lambda **fitting: timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels, **fitting),
        options,
    )


def build_torchvision(source: str, *, classes: int, channels: int, size: Size) -> nn.Module:
    """torchvision's classifier of that name for images of `size` pixels, where it has a fixed size.

    Auxiliary heads (GoogLeNet, Inception) are left out: they answer in training only. Raises `HarpError` where
    torchvision cannot be imported, for a name that is none of its classifiers, for images that are not of three
    channels, and for a network that cannot be made for such images.
    """
    vision, name = need("torchvision", "torchvision", f"model {source!r}").models, source.partition(":")[2]
    _check_name(source, name, vision.list_models(module=vision))
    if channels != 3:
        raise HarpError(f"model {source!r} takes images of 3 channels, and these have {channels}; timm:NAME takes any")
    options = {"image_size": size, "aux_logits": False}
    return _made(
        source, lambda **fitting: vision.get_model(name, weights=None, num_classes=classes, **fitting), options
    )


def _check_name(source: str, name: str, known: list[str]) -> None:
    if name not in known:
        raise HarpError(f"no model {source!r}; {choices(name, known)}")


def _made(source: str, make: Callable[..., nn.Module], options: dict[str, Any]) -> nn.Module:
    """What `make` gives with those of `options` that it takes.

    Signatures end in **kwargs in both libraries, so only the error tells which those are.
    """
    try:
        return make(**options)
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in options:
            raise _failed(source, error) from error
        refused_name = refused[1]
    except Exception as error:
        raise _failed(source, error) from error
    return _made(source, make, {name: value for name, value in options.items() if name != refused_name})


def _failed(source: str, error: Exception) -> HarpError:
    return HarpError(f"model {source!r} cannot be made: {type(error).__name__}: {error}")
