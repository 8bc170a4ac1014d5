"""How pictures in files are read, and whether they are held in memory or read when they are needed."""

import os
from dataclasses import dataclass, fields
from typing import Literal

from harp.data.ahead import processors
from harp.data.pictures import Fit

SHARE = 4  # of the memory that images may take is one in so many


@dataclass(frozen=True)
class Reading:
    """What a recipe says of reading pictures; by default they are as they are, of one size, and held where they fit."""

    size: tuple[int, int] | None = None
    """height and width to which pictures are resized; None: as they are"""
    centre: float = 1.0
    """share of the largest middle window's sides that is kept of a picture that is resized"""
    stream: Literal["auto", "always", "never"] = "auto"
    """whether pictures are read when they are needed; auto: what would take more than a quarter of the memory"""
    workers: int | None = None
    """threads that decode; None: one a processor"""

    @property
    def threads(self) -> int:
        return self.workers or processors()

    @property
    def fit(self) -> Fit | None:
        """To what pictures are made that are not varied."""
        return None if self.size is None else Fit(self.size, self.centre)

    def asked(self) -> str | None:
        """The first setting that is not the default, which a set that holds no pictures in files cannot follow."""
        usual = AS_THEY_ARE
        return next(
            (field.name for field in fields(self) if getattr(self, field.name) != getattr(usual, field.name)), None
        )

    def streams(self, total: int) -> bool:
        """Whether images of `total` bytes are read when they are needed."""
        return self.stream == "always" or (self.stream == "auto" and total > memory() / SHARE)


AS_THEY_ARE = Reading()


def memory() -> int:
    """Bytes of memory that this machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
