"""Metrics shown elsewhere while a stage trains: TensorBoard, Weights & Biases, MLflow."""

from harp.boards.board import About
from harp.boards.feed import BOARDS, FED, LOCAL, check_boards, fed, mark

__all__ = ["BOARDS", "FED", "LOCAL", "About", "check_boards", "fed", "mark"]
