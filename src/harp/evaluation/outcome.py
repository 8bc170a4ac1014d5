"""What an evaluation comes to: its numbers with their intervals, its doubts, and the one number to quote, if any."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from harp.errors import HarpError, choices
from harp.evaluation.balanced import uneven
from harp.evaluation.doubts import DOUBTS, Doubt
from harp.evaluation.gathered import Evaluation, summary


@dataclass(frozen=True)
class Outcome:
    """An evaluation, the doubts that it raised, and the names of those that somebody looked into.

    `met` names doubts for which the evaluation itself made allowance: they stand beside its number, not in its place.
    `examined` is how many images were looked at for doubts; None: not told.

    Raises `HarpError` for an acknowledged name that is no doubt's.
    """

    evaluation: Evaluation
    doubts: tuple[Doubt, ...] = ()
    acknowledged: tuple[str, ...] = ()
    examined: int | None = None
    met: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.check(self.acknowledged)

    @staticmethod
    def check(acknowledged: Iterable[str]) -> None:
        """Raises `HarpError` for a name that is no doubt's."""
        for name in acknowledged:
            if name not in DOUBTS:
                raise HarpError(f"no doubt {name!r} to acknowledge; {choices(name, DOUBTS)}")

    @property
    def open(self) -> tuple[Doubt, ...]:
        """The doubts that are neither acknowledged nor met; while there are any, no robust accuracy is quoted."""
        return tuple(doubt for doubt in self.doubts if doubt.name not in (*self.acknowledged, *self.met))

    @property
    def robust(self) -> float | None:
        """The share of examples right under everything, in [0, 1]; None while a doubt is open and it is not 0.

        A share of 0 bounds itself from above, and nobody can doubt that.
        """
        held = self.evaluation.flags["worst"]
        return None if self.open and held.any() else int(held.sum()) / len(held)

    def values(self) -> dict[str, Any]:
        """All of it as JSON values; while a doubt is open, "worst" has "doubts", which tables show in its place.

        Else it has "beside", those that were met, which tables show beside it.

        Where classes are of unequal size each measure has "balanced", the same with all classes counting alike.
        "worst" also says "examined": 0 where nobody looked for doubts. "classes" counts, for each label, its images and
        those that were right, measure by measure.
        """
        found = self.evaluation
        measures = summary(found.flags, found.labels if uneven(found.labels) else None)
        if self.robust is None:
            for cell in filter(None, (measures["worst"], measures["worst"].get("balanced"))):
                cell["doubts"] = [doubt.name for doubt in self.open]
        elif beside := [doubt.name for doubt in self.doubts if doubt.name in self.met]:
            measures["worst"]["beside"] = beside
        if self.examined == 0:
            measures["worst"]["examined"] = 0
        return {
            "n": len(found.labels),
            "examined": self.examined,
            "robust": self.robust,
            "measures": measures,
            "cascade": found.cascade,
            "classes": _classes(found),
            "broken_by": {name: found.broken_by.count(name) for name in found.flags if name != "worst"},
            "doubts": [self._told(doubt) for doubt in self.doubts],
            "notes": [*self._needless(), *found.notes],
        }

    def _needless(self) -> list[str]:
        unseen = [name for name in self.met if not any(doubt.name == name for doubt in self.doubts)]
        return [f"allowance was made for {name}, of which nothing was seen." for name in unseen if self.examined]

    def _told(self, doubt: Doubt) -> dict[str, Any]:
        met = {"met": True} if doubt.name in self.met else {}
        return {**asdict(doubt), "acknowledged": doubt.name in self.acknowledged, **met}


def _classes(found: Evaluation) -> dict[str, dict[str, int]]:
    """Label -> n, and how many of them were right, measure by measure."""
    rows = {}
    for label in sorted(set(found.labels.tolist())):
        mine = found.labels == label
        right = {name: int(flags[mine].sum()) for name, flags in found.flags.items()}
        rows[str(label)] = {"n": int(mine.sum()), **right}
    return rows
