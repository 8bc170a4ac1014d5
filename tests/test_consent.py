import os

from harp.consent import is_known, remember


def test_what_was_remembered_is_known_to_this_user_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    remember(["a mark", "a mark", "b \udce9"])
    assert is_known("a mark")
    assert is_known("b \udce9")
    assert not is_known("a mar")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "yours"))
    assert not is_known("a mark")


def test_without_a_variable_it_is_the_usual_place_below_home(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    remember(["a mark"])
    assert len(os.listdir(tmp_path / ".local" / "state" / "harp" / "named")) == 1


def test_a_place_that_cannot_be_written_is_no_error_and_no_consent(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    remember(["a mark"])
    assert not is_known("a mark")
