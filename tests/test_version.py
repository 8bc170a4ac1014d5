import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import harp
from harp.version import VERSION

ROOT = Path(__file__).parents[1]


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", str(folder), *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def checkout(folder):
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def own(tmp_path):
    """A checkout of harp's own, with this one file in it."""
    place = tmp_path / "src" / "harp"
    place.mkdir(parents=True)
    shutil.copy(ROOT / "src" / "harp" / "version.py", place)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def commit(file, **env):
    """What the file says when another process asks it."""
    text = f"import runpy; print(runpy.run_path({str(file)!r})['commit']())"
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=True, env=env
    ).stdout.strip()


def test_the_version_is_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert VERSION == harp.__version__ == project["version"]


def test_in_its_own_checkout_the_commit_is_head_and_a_change_is_marked(own):
    head = checkout(own)
    file = own / "src" / "harp" / "version.py"
    assert commit(file) == head
    (own / "pyproject.toml").write_text((own / "pyproject.toml").read_text() + "\n")
    assert commit(file) == f"{head}+"


def test_a_project_that_harp_is_installed_in_is_not_harps(own, tmp_path_factory):
    theirs = tmp_path_factory.mktemp("theirs")
    place = theirs / ".venv" / "lib" / "python3.11" / "site-packages" / "harp"
    place.mkdir(parents=True)
    shutil.copy(own / "src" / "harp" / "version.py", place)
    checkout(theirs)
    assert commit(place / "version.py") == "None"
    assert commit(place / "version.py", GIT_DIR=str(theirs / ".git"), GIT_WORK_TREE=str(theirs)) == "None"


def test_a_project_that_holds_a_copy_of_harp_is_not_harps(own):
    (own / "pyproject.toml").write_text('[project]\nname = "theirs"\n')
    checkout(own)
    assert commit(own / "src" / "harp" / "version.py") == "None"


def test_a_copy_that_nobody_committed_has_no_commit(own):
    (own / ".gitignore").write_text("src\n")
    checkout(own)
    assert commit(own / "src" / "harp" / "version.py") == "None"


def test_git_of_another_repository_is_not_asked(own, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "file").touch()
    checkout(other)
    head = checkout(own)
    assert commit(own / "src" / "harp" / "version.py", GIT_DIR=str(other / ".git")) == head
