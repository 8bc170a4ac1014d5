"""A data set by the name that a recipe gives it."""

from pathlib import Path

from harp.data.base import DATA, Dataset
from harp.data.hub import PREFIX, hub


def load(name: str, path: Path | None = None) -> Dataset:
    """The data set registered as `name`, or the hub's where `name` is `hub:owner/name`.

    `path` is the folder or file that holds it (for the hub, the download cache); None is the set's default
    place. Raises `HarpError` for an unknown name, and whatever the set itself raises.
    """
    return hub(name, path) if name.startswith(PREFIX) else DATA[name](path)
