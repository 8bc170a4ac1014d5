import os
import signal
import stat
import time

import pytest

from harp.drafts import ABANDONED, create, draft
from harp.files import write_atomic


def test_what_is_drafted_takes_its_name_at_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with draft(path) as place:
        place.write_bytes(b"new")
        assert (place.parent, path.read_bytes()) == (tmp_path, b"old")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def _stopped_by(error, path):
    with draft(path) as place:
        place.write_bytes(b"new")
        raise error


def test_what_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for error in (OSError, KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            _stopped_by(error, path)
    with pytest.raises(FileNotFoundError), draft(path):
        pass
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_no_two_drafts_have_one_name(tmp_path):
    with draft(tmp_path / "file") as first, draft(tmp_path / "file") as second:
        first.write_bytes(b"1")
        second.write_bytes(b"2")
        assert first != second
    assert (tmp_path / "file").read_bytes() == b"1"


@pytest.mark.parametrize("there", ["a file", "a link", "a link to nowhere", "a folder"])
def test_only_what_is_new_is_opened(tmp_path, there):
    theirs, place = tmp_path / "theirs", tmp_path / "place"
    if there == "a file":
        place.write_bytes(b"precious")
    elif there == "a folder":
        place.mkdir()
    else:
        place.symlink_to(theirs)
        if there == "a link":
            theirs.write_bytes(b"precious")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(FileExistsError):
        create(place)
    assert sorted(os.listdir(tmp_path)) == before
    assert all(path.read_bytes() == b"precious" for path in (theirs, place) if path.is_file())


def test_a_written_file_has_the_rights_of_any_other(tmp_path):
    mask = os.umask(0o027)
    try:
        write_atomic(tmp_path / "ours", b"")
        (tmp_path / "any").write_bytes(b"")
    finally:
        os.umask(mask)
    rights = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "any")]
    assert rights == [0o640, 0o640]


@pytest.mark.parametrize("name", [".file.partial", ".file.draft", "file"])
def test_links_under_foreseeable_names_are_not_followed(tmp_path, name):
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"precious")
    (tmp_path / name).symlink_to(theirs)
    write_atomic(tmp_path / "file", b"ours")
    assert theirs.read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"ours"
    assert not (tmp_path / "file").is_symlink()


def killed(path):
    """How a process ends that is killed while it writes."""
    if not (child := os.fork()):
        with draft(path) as place, create(place) as file:
            file.write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def test_what_killed_processes_leave_is_removed_once_nobody_can_be_at_it(tmp_path):
    path = tmp_path / "file"
    for _ in range(2):
        assert killed(path) == signal.SIGKILL
    first, second = (tmp_path / name for name in os.listdir(tmp_path))
    now = time.time()
    os.utime(first, (now - ABANDONED - 60, now - ABANDONED - 60))
    write_atomic(path, b"whole")
    assert not first.exists()
    assert second.exists()  # it may be another living writer's


def test_old_files_of_other_names_are_no_leftovers(tmp_path):
    digits = "0123456789abcdef"
    others = [
        f".other.{digits}.partial",
        f".file.{digits}",
        ".file.partial",
        f"file.{digits}.partial",
        f".xfile.{digits}.partial",
    ]
    for name in others:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (0, 0))
    inner = tmp_path / f"..file.{digits}.partial.{digits}.partial"  # of a package's draft
    inner.write_bytes(b"")
    os.utime(inner, (0, 0))
    write_atomic(tmp_path / "file", b"whole")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "file"])
