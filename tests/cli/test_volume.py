"""How much a command says, and that what it leaves out is logged all the same."""

import logging
import subprocess
import sys

import pytest

from harp.cli import main
from harp.cli.volume import taken
from harp.config import write_recipe
from harp.errors import HarpError
from tests.tiny import tiny


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_bytes(write_recipe(tiny()))
    return tmp_path


def test_a_flag_is_taken_out_wherever_it_stands():
    assert taken(["run", "--quiet", "digits"]) == (["run", "digits"], "--quiet")
    assert taken(["run", "digits", "--verbose"]) == (["run", "digits"], "--verbose")
    assert taken(["run"]) == (["run"], "")
    with pytest.raises(HarpError, match="--quiet and --verbose are both given"):
        taken(["run", "--quiet", "--verbose"])


def test_quiet_says_nothing_and_does_the_same(here, capsys, caplog):
    with caplog.at_level(logging.INFO, logger="harp"):
        main(["pretrain", "tiny.yaml", "--folder", "run", "--quiet"])
    assert (here / "run" / "1-pretrain" / "done.json").is_file()
    assert capsys.readouterr() == ("", "")
    assert "results: run" in caplog.messages


def test_quiet_keeps_errors(here, capsys):
    with pytest.raises(SystemExit):
        main(["pretrain", "nowhere.yaml", "--quiet"])
    out, err = capsys.readouterr()
    assert out == ""
    assert "no recipe file nowhere.yaml" in err


def test_verbose_adds_what_is_logged(here, capsys):
    main(["pretrain", "tiny.yaml", "--folder", "run", "--verbose"])
    out, err = capsys.readouterr()
    assert "results: run" in out
    assert "harp.files: wrote" in err
    assert "done.json" in err
    assert "results: run" not in err
    assert logging.getLogger("harp").handlers == []


def test_the_version_tells_what_it_is_built_of(capsys):
    main(["--version"])
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("harp 0.")
    assert rest[0].startswith("python 3.")
    assert rest[1].startswith("torch 2.")
    assert rest[2].startswith("sparse engine: ")


def test_help_and_version_do_not_wait_for_torch():
    text = "import sys; from harp.cli import main; main(['--version']); main(['--help']); print('torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "False"
