"""Weights & Biases: one of its runs a stage, grouped by ours; without a login all stays in the stage's folder."""

import netrc
import os
import secrets
from collections.abc import Mapping
from urllib.parse import urlsplit

from harp.boards.board import About
from harp.extras import need

SITE = "https://api.wandb.ai"


class WandB:
    def __init__(self, about: About):
        library = need("wandb", "wandb", "the board wandb")
        self.key = about.key or secrets.token_hex(4)
        # Left to itself it would ask for a login, and wait.
        mode = None if "WANDB_MODE" in os.environ or logged_in() else "offline"
        self._run = library.init(
            id=self.key,
            project=os.environ.get("WANDB_PROJECT", "harp"),
            group=about.run,
            name=f"{about.run}/{about.stage}",
            dir=str(about.folder),
            config=dict(about.settings),
            mode=mode,
            resume="allow",
            settings=library.Settings(console="off", silent=True),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step, commit=True)

    def close(self, ended: bool) -> None:
        self._run.finish(exit_code=0 if ended else 1)


def logged_in() -> bool:
    """Whether a key for the site lies where the library looks for one: in WANDB_API_KEY or in the user's netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", SITE)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
