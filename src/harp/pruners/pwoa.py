"""PwoA: R-ADMM under a teacher, with a schedule of its own (Jian et al., ICDM 2022)."""

from typing import Literal

from harp.config.values import Positive, Share
from harp.pruners.base import METHODS
from harp.pruners.radmm import RADMM, Growth, RADMMOptions


class PwoAOptions(RADMMOptions):
    """What `pwoa` can be told."""

    form: Literal["published", "repaired"] = "repaired"
    """published: Z = Proj(W) as each epoch begins, which leaves an old U, and U keeps its size when rho grows"""
    rho: Positive = 0.01
    """how strongly weights are pulled at first"""
    growth: Growth = 1.35
    """factor on rho at each update of Z and U"""
    period: Share = 0.06
    """share of the stage from one update of Z and U to the next; the paper's is 3 of 50 epochs"""


@METHODS.register("pwoa")
class PwoA(RADMM):
    """PwoA: R-ADMM, pulled harder and more often, meant for a teacher's answers as loss (Jian et al., ICDM 2022).

    This is the pruner; the loss is the objective of the same name. The paper trains 50 epochs this way, at a rate that
    falls from 0.01 to 0.0001 within each 3, then 100 epochs under masks.

    The form "published" projects anew as every epoch begins, Z = Proj(W), and leaves U as it was: so ADMM is little
    more than a pull towards Proj(W) (METHODS 2.5). U has no graph in either form, and is divided by what rho grows by
    in the repaired one. Classifiers that the released code leaves dense for their names are pruned unless
    `model.exclude` names them. Raises `HarpError` as `r-admm` does.
    """

    takes = PwoAOptions

    @property
    def pulls(self) -> int:
        return 1

    def renew(self, step: int) -> None:
        if self.options.form == "published" and step < self._steps and step % self.course.steps_per_epoch == 0:
            self.aim_at_weights()
        super().renew(step)
