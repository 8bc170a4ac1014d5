"""Learning from another network: which one it was, through every resume."""

from torch import Tensor, nn

from harp.copies import copied
from harp.errors import HarpError
from harp.models import logits_of
from harp.objectives.base import Objective
from harp.runs import Tree
from harp.trees import digest


class Taught(Objective):
    """An objective with a `teacher`, which is copied as it is; the copy answers in eval mode and never learns.

    It is no part of the state but for its digest. Raises `HarpError` where the state is one under another teacher.
    """

    teacher: nn.Module

    def __post_init__(self) -> None:
        self.teacher = copied(self.teacher).eval().requires_grad_(False)
        self._digest = digest(self.teacher.state_dict())

    def taught(self, x: Tensor) -> Tensor:
        """The teacher's logits, through which a gradient may reach the images."""
        return logits_of(self.teacher(x))

    def state_dict(self) -> Tree:
        return {"teacher": self._digest}

    def load_state_dict(self, state: Tree) -> None:
        if state.get("teacher", self._digest) != self._digest:
            raise HarpError("the teacher is not the one that this training began under; put its weights back")
