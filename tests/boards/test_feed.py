"""Feeding: each step once, also after a kill; a board that fails stops nothing."""

import json
from contextlib import suppress

import pytest

from harp.boards import BOARDS, FED, About, check_boards, fed, mark
from harp.boards.board import numbers
from harp.consent import is_known
from harp.errors import HarpError
from harp.runs import Metrics


class Fake:
    """A board that keeps what it is told."""

    def __init__(self, about):
        self.about, self.key, self.told, self.ended = about, about.key or "first", [], None

    def log(self, step, values):
        if values.get("loss") == 13:
            raise ConnectionError("gone")
        self.told.append((step, values))

    def close(self, ended):
        self.ended = ended


@pytest.fixture
def opened(monkeypatch):
    """The boards that were opened, in order; `wandb` is a fake one."""
    boards: list[Fake] = []

    def make(about):
        boards.append(Fake(about))
        return boards[-1]

    monkeypatch.setitem(BOARDS, "wandb", make)
    return boards


def about(tmp_path):
    return About(tmp_path, "mine", "2-prune", {"epochs": 3})


def line(step, loss=1.0):
    return {"step": step, "loss": loss, "validation": None}


def killed(names, about, metrics, lines):
    """A stage that is interrupted once it has added these lines."""
    with suppress(KeyboardInterrupt), fed(names, about, metrics, print):
        for one in lines:
            metrics.add(one)
        raise KeyboardInterrupt


def test_numbers_are_called_by_their_path_and_the_rest_is_left_out():
    record = {"step": 2, "loss": 0.5, "validation": {"robust": 0.25}, "pruner": {"target_met": True, "rates": None}}
    assert dict(numbers(record)) == {"step": 2, "loss": 0.5, "validation/robust": 0.25, "pruner/target_met": 1}


def test_a_resumed_stage_tells_no_step_twice(tmp_path, opened):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    killed(["wandb"], about(tmp_path), metrics, [line(step) for step in (2, 4, 6)])
    again = Metrics(metrics.path)
    again.rewind(2)  # the checkpoint was of step 2 or 3
    with fed(["wandb"], about(tmp_path), again, print):
        for step in (4, 6, 8):
            again.add(line(step))
    first, second = opened
    assert [step for step, _ in first.told + second.told] == [2, 4, 6, 8]
    assert (second.about.key, second.about.step) == ("first", 6)
    assert (first.ended, second.ended) == (False, True)
    assert [record["step"] for record in again] == [2, 4, 6, 8]


def test_a_board_that_comes_later_is_told_what_was_there(tmp_path, opened):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.add(line(2))
    with fed(["wandb"], about(tmp_path), metrics, print):
        metrics.add(line(4))
    assert [step for step, _ in opened[0].told] == [2, 4]
    assert json.loads((tmp_path / FED).read_text()) == {"wandb": {"key": "first", "step": 4}}


def test_a_board_that_fails_is_told_and_metrics_go_on(tmp_path, opened):
    said: list[str] = []
    metrics = Metrics(tmp_path / "metrics.jsonl")
    with fed(["wandb"], about(tmp_path), metrics, said.append):
        for step, loss in ((2, 13.0), (4, 1.0)):
            metrics.add(line(step, loss))
    assert said == ["note: wandb shows no more of this stage: ConnectionError: gone"]
    assert opened[0].told == []
    assert [record["step"] for record in metrics] == [2, 4]


def test_a_board_that_was_told_something_is_known_from_then_on(tmp_path, monkeypatch, opened):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert not is_known(mark("wandb"))
    with fed(["wandb"], about(tmp_path), Metrics(tmp_path / "metrics.jsonl"), print):
        assert is_known(mark("wandb"))


def test_a_board_that_cannot_be_opened_is_refused(tmp_path, monkeypatch):
    def refuse(about):
        raise ValueError("no such server")

    monkeypatch.setitem(BOARDS, "mlflow", refuse)
    with (
        pytest.raises(HarpError, match="boards: mlflow cannot be opened: ValueError: no such server"),
        fed(["mlflow"], about(tmp_path), Metrics(tmp_path / "metrics.jsonl"), print),
    ):
        pass


def test_without_boards_nothing_is_written(tmp_path):
    metrics = Metrics(tmp_path / "metrics.jsonl")
    with fed([], about(tmp_path), metrics, print):
        metrics.add(line(1))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_is_not_installed_is_named_before_anything_begins(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(HarpError, match=r"the board wandb needs wandb; install it with pip install 'harp-pruning\[wan"):
        check_boards(["wandb"])
