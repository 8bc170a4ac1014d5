"""Which harp this is: its version, and the commit where it runs from its own checkout."""

import os
from pathlib import Path

VERSION = "0.1.0"

_ROOT = Path(__file__).resolve().parents[2]


def commit() -> str | None:
    """HEAD of harp's own checkout, with `+` for uncommitted changes; None where harp is installed elsewhere.

    A checkout that harp merely lies in, such as that of a project with its environment inside, is not harp's own.
    """

    # Late: a program that only runs a package asks for no commit, and starts in a tenth of a second.
    import subprocess

    def git(*words: str) -> str:
        # Git's own variables would point it at whatever repository a hook runs in.
        plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        command = ["git", "-C", str(_ROOT), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10, env=plain).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != _ROOT or not _is_ours():
            return None
        git("ls-files", "--error-unmatch", str(Path(__file__).resolve()))
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _is_ours() -> bool:
    project = _ROOT / "pyproject.toml"
    return project.is_file() and 'name = "harp-pruning"' in project.read_text(errors="replace")
