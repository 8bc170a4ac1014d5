"""`harp watch` beside a run: what it prints, and when it ends."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from filelock import FileLock

from harp.cli import main
from harp.watching.reading import LOCKS
from tests.watching.test_run import begun

WORDS = [sys.executable, "-m", "harp", "watch"]


def test_once_tells_how_it_stands(tmp_path, capsys):
    begun(tmp_path, 4, 8)
    main(["watch", str(tmp_path), "--once"])
    assert capsys.readouterr().out == (
        "pretrain: running, step 8 of 12, 10 s left, loss 2.000, clean 50.0 %, robust 40.0 %\n"
    )


@pytest.mark.skipif(not LOCKS.exists(), reason="that a process ended is told by the kernel's list of locks")
def test_piped_it_prints_changes_and_ends_with_the_process(tmp_path):
    begun(tmp_path / "run", 4)
    with FileLock(tmp_path / "run" / ".lock"):
        process = subprocess.Popen([*WORDS, str(tmp_path / "run"), "--every", "0.1"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert "step 4 of 12" in process.stdout.readline()
        begun(tmp_path / "later", 4, 8)
        os.replace(tmp_path / "later/1-pretrain/metrics.jsonl", tmp_path / "run/1-pretrain/metrics.jsonl")
        assert "step 8 of 12" in process.stdout.readline()
    assert process.stdout.read() == ""
    assert process.wait() == 0


def test_an_interrupt_stops_looking_and_is_no_mistake(tmp_path):
    begun(tmp_path, 4)
    # A shell starts what runs in the background deaf to interrupts, and so is what that starts.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*WORDS, str(tmp_path)], stdout=subprocess.PIPE, text=True, preexec_fn=heard)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["none"], "no folder none"), ([".", "--every", "0"], "--every 0: expected"), (["."], "no run in .")],
)
def test_what_cannot_be_watched(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["watch", *arguments])
    assert end.value.code == 2
    assert said in capsys.readouterr().err
