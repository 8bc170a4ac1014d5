"""A network from a factory: a registered one, an installed package's, or one in a user's own file."""

from pathlib import Path

from torch import nn

from harp.errors import HarpError
from harp.models.base import MODELS, Size
from harp.own import is_own
from harp.registry import accepted


def own_file(source: str) -> Path | None:
    """The user's own file that a network of this name is made from; None for any other network.

    That is the Python file of `path/to/file.py:factory`, and of `hf:FOLDER` the folder's configuration.
    """
    if is_own(source):
        return Path(source.rpartition(":")[0]).expanduser().resolve()
    folder = Path(source.removeprefix("hf:")).expanduser()
    config = folder / "config.json"
    return config.resolve() if source.startswith("hf:") and config.is_file() else None


def build_named(source: str, *, classes: int, channels: int, size: Size, width: float) -> nn.Module:
    """What the factory named by `source` returns, called with those of the four keywords it accepts.

    `size` is one number for square images, and height and width for others.
    Raises `HarpError` for all that looking it up refuses, for a `width` other than 1 that the factory does
    not accept, for a factory that raises, and for a result that is no `nn.Module`.
    """
    factory = MODELS[source]
    options = {"classes": classes, "channels": channels, "size": size, "width": width}
    taken = accepted(factory, options)
    if width != 1 and "width" not in taken:
        raise HarpError(f"model {source!r} takes no width, so width {width} would change nothing; expected 1.0")
    try:
        model: object = factory(**taken)
    except HarpError:
        raise
    except Exception as error:
        offer = ", ".join(options)
        raise HarpError(f"model {source!r} raised {type(error).__name__}: {error} (it may take: {offer})") from error
    if not isinstance(model, nn.Module):
        raise HarpError(f"model {source!r} returned an object of type {type(model).__name__}; expected an nn.Module")
    return model
