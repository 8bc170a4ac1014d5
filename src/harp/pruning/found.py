"""What one call comes to."""

from dataclasses import dataclass

from torch import nn

from harp.evaluation import Outcome
from harp.evaluation.tables import accuracy_table, as_text
from harp.sparsity import Masks
from harp.threats import Threat


@dataclass(frozen=True)
class Pruned:
    """The fine-tuned network, in eval mode, and what it and the network before came to on the test images.

    `masks` say which weights are left (bool, by site); None where channels went, for what they made is gone. `kept` of
    `total` weights and `macs` of `total_macs` multiply-accumulates an image are left. `notes` are what a reader of the
    numbers should know.
    """

    model: nn.Module
    masks: Masks | None
    before: Outcome
    after: Outcome
    threat: Threat
    kept: int
    total: int
    macs: int
    total_macs: int
    notes: tuple[str, ...] = ()

    @property
    def clean(self) -> float:
        """The share of test images that the fine-tuned network answers rightly as they are, in [0, 1]."""
        return self.after.evaluation.clean

    @property
    def robust(self) -> float | None:
        """The share answered rightly as they are and under every attack, in [0, 1]; None while a doubt is open."""
        return self.after.robust

    def table(self) -> str:
        """The networks before and after side by side, in percent with 95 % intervals, as text; notes stand below."""
        outcomes = {"before": self.before, "fine-tuned": self.after}
        sizes = {
            "weights kept": [f"{left:,} of {self.total:,}" for left in (self.total, self.kept)],
            "MACs per image": [f"{left:,}" for left in (self.total_macs, self.macs)],
        }
        cells = {name: outcome.values()["measures"] for name, outcome in outcomes.items()}
        title = f"accuracy in %, with 95 % intervals; {self.threat}"
        whole = as_text(accuracy_table(cells, title, sizes, self.after.evaluation.cascade))
        return "\n".join([whole, *(f"note: {note}" for note in self.notes)])
