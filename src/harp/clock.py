"""One type for "how often": a number of epochs or of optimizer steps."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """A span of training, written "20ep" (epochs) or "500it" (optimizer steps)."""

    count: int
    unit: str

    @classmethod
    def parse(cls, text: str) -> "Step":
        """The span that `text` names; raises `ValueError` unless it is a positive whole number with `ep` or `it`.

        Numbers of more than nine digits are refused, too.
        """
        found = re.fullmatch(r"([1-9]\d{0,8})(ep|it)", text.strip())
        if not found:
            raise ValueError(f"expected a span such as '1ep' (epochs) or '500it' (steps), got {text[:40]!r}")
        return cls(int(found[1]), found[2])

    def steps(self, per_epoch: int) -> int:
        """The span in optimizer steps, where an epoch has `per_epoch` of them."""
        return self.count * per_epoch if self.unit == "ep" else self.count

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"
