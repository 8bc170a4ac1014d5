"""TensorBoard: event files in the stage's folder, which `tensorboard --logdir RUN` finds."""

from collections.abc import Mapping

from harp.boards.board import About
from harp.extras import need


class TensorBoard:
    key = ""

    def __init__(self, about: About):
        need("tensorboard", "tensorboard", "the board tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        # What a killed process wrote beyond the last step on record is no longer shown.
        purge = about.step + 1 if about.step else None
        self._writer = SummaryWriter(str(about.folder / "tensorboard"), purge_step=purge)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, ended: bool) -> None:
        self._writer.close()
