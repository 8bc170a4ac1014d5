"""The script that a shell completes by: every command, every flag, and a bash that takes it."""

import shutil
import subprocess

import pytest

from harp.cli import main
from harp.cli.commands import COMMANDS
from harp.cli.completion import gathered


def test_the_parser_of_a_command_has_its_flags_and_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, network = gathered("evaluate", ["digits"]), gathered("evaluate", ["net.safetensors"])
    assert recipe is not None
    assert network is not None
    flags = [set(found.parser._option_string_actions) for found in (recipe, network)]
    assert all("--evaluation.attacks" in each for each in flags)
    assert ["--weights" in each for each in flags] == [False, True]
    assert network.arguments == ["net.safetensors"]
    assert gathered("list", []) is None
    assert list(tmp_path.iterdir()) == []


def test_bash_reads_the_script_and_every_command_is_in_it(capsys):
    pytest.importorskip("shtab")
    main(["completion", "bash"])
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert "--prune.keep" in script
    assert "--weights" in script
    if bash := shutil.which("bash"):
        subprocess.run([bash, "-n"], input=script, text=True, check=True)


def test_another_shell_is_refused(capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit):
        main(["completion", "bsh"])
    assert "no shell 'bsh'; did you mean 'bash'?" in capsys.readouterr().err
