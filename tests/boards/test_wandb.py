"""Without a login a stage is kept offline, and never waits for an answer; when it goes on it is the same run."""

import pytest

from harp.boards import About, fed
from harp.boards.wandb import logged_in
from harp.runs import Metrics


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """Nobody is logged in."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_who_is_logged_in(nobody, monkeypatch):
    assert not logged_in()
    (nobody / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "https://elsewhere.example")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()


def test_a_run_without_a_login_is_kept_in_the_folder(nobody):
    pytest.importorskip("wandb", reason="wandb takes 70 MB, for an extra; `pip install -e .[wandb]` lets this run")
    about, metrics = About(nobody, "mine", "2-prune", {"epochs": 3}), Metrics(nobody / "metrics.jsonl")
    for step in (2, 4):
        with fed(["wandb"], about, metrics, print):
            metrics.add({"step": step, "loss": 0.5})
    files = [*nobody.glob("wandb/offline-run-*/run-*.wandb")]
    assert len({path.stem for path in files}) == 1  # one run, which each process adds a file to
    assert [b"loss" in path.read_bytes() for path in files] == [True] * len(files)
