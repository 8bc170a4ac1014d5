"""The recipe that lies in a run's folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harp.config import make_recipe, read_recipe
from harp.errors import HarpError
from harp.runs import DamagedError


def settings_in(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """The settings in a run's recipe, or those of these `names` in it; `DamagedError` where they are none."""
    try:
        values = read_recipe(path)
        kept = values if names is None else {name: values[name] for name in names if name in values}
        make_recipe(kept)
    except HarpError as error:
        said = " ".join(str(error).split())
        raise DamagedError(
            path, said if str(path) in said else f"{path} is no recipe of this version: {said}"
        ) from None
    return kept
