"""Metrics shown elsewhere while a stage trains: TensorBoard, Weights & Biases, MLflow."""

from harp.boards.board import About
from harp.boards.feed import BOARDS, FED, check_boards, fed

__all__ = ["BOARDS", "FED", "About", "check_boards", "fed"]
