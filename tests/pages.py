"""The code of README and docs, block by block, and how it is run: in order, a page at a time, in an empty folder.

- `python` runs in one scope a page. A block whose first line is `# NAME.py` is that file.
- `console` is a command a line: `harp ...`, or `python FILE`. What trains is made short by `SHORT`, which stands before
  the page's own flags, so that these count.
- `yaml` and `toml` begin with `# NAME.yaml` and become that file.
- `text`, and a fence without a word, show what something prints or is made of, and are no code.
- The line `*Not run by the tests: REASON.*` before a block says of the block what it says, to every reader.
"""

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.arena import read_grid
from harp.cli import main
from harp.config import make_recipe, read_recipe
from harp.tuning.settings import read_tuning

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]
CODE = ("python", "console", "yaml", "toml")
FENCE = re.compile(
    r"(?:^\*Not run by the tests: (?P<why>[^\n]+)\.\*\n\n)?^```(?P<kind>[^\n]*)\n(?P<text>.*?)^```", re.M | re.S
)
NAMED = re.compile(r"# ([\w-]+\.(?:py|ya?ml|toml))\b.*\n")
SHORT = shlex.split(
    "--data.train 160 --data.holdout 0.2 --attack.steps 2 --pretrain.epochs 2 --prune.epochs 2 "
    "--finetune.epochs 1 --pretrain.batch_size 32 --prune.batch_size 32 --finetune.batch_size 32 "
    "--evaluation.images 40 --evaluation.attacks pgd --evaluation.steps 3 --evaluation.restarts 1 "
    "--evaluation.doubts 8 --evaluation.curve 0"
)
TRAINING = ("run", "pretrain", "prune", "finetune", "evaluate", "export", "report")


@dataclass(frozen=True)
class Block:
    """A fenced block of `page`: its language, its text, its first line, and why no test runs it, if none does."""

    page: Path
    line: int
    kind: str
    text: str
    why: str | None

    @property
    def file(self) -> str | None:
        """The name of the file that the block is, None where it is none."""
        found = NAMED.match(self.text)
        return found[1] if found else None


def blocks(page: Path) -> list[Block]:
    """The page's blocks, in order; fences inside a list or a quotation are not looked for."""
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("text")), found["kind"].strip(), found["text"], found["why"])
        for found in FENCE.finditer(text)
    ]


def code(page: Path, kind: str = "python") -> list[str]:
    """The texts of the page's blocks of one language."""
    return [block.text for block in blocks(page) if block.kind == kind]


def run_page(page: Path, scope: dict[str, Any]) -> int:
    """How many blocks of the page were run, in the folder where the process stands; raises what a block raises."""
    count = 0
    for block in blocks(page):
        if block.kind in CODE and block.why is None:
            run_block(block, scope)
            count += 1
    return count


def run_block(block: Block, scope: dict[str, Any]) -> None:
    if block.file is not None:
        Path(block.file).write_text(block.text)
        if block.kind == "yaml":
            check_yaml(Path(block.file))
    elif block.kind == "python":
        place = "\n" * block.line + block.text
        exec(compile(place, str(block.page), "exec"), scope)
    elif block.kind == "console":
        for words in commands(block.text):
            run_command(words)
    else:
        raise AssertionError(f"{block.page}:{block.line}: a {block.kind} block begins with the name of its file")


def check_yaml(path: Path) -> None:
    """Nothing where the file is a recipe, an arena's grid or a search; raises `HarpError` otherwise."""
    keys = {line.partition(":")[0] for line in path.read_text().splitlines()}
    if "space" in keys:
        read_tuning(path)
    elif "rows" in keys:
        read_grid(path)
    else:
        make_recipe(read_recipe(path))


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a block, less what stands behind #; a line that ends in \\ goes on."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_command(words: list[str]) -> None:
    """Runs `harp ...` in this process and `python ...` as it is; any other command is a mistake of the page."""
    if words[0] == "python":
        runpy.run_path(words[1], run_name="__main__")
        return
    assert words[0] == "harp", f"no test knows how to run {words}"
    code: object = 0
    try:
        main(shortened(words[1:]))
    except SystemExit as end:
        code = end.code
    assert not code, f"{shlex.join(words)} ended with {code}"


def shortened(arguments: list[str]) -> list[str]:
    """The arguments of `harp` with `SHORT` before the flags, where a recipe trains."""
    command, *rest = arguments
    named = [word for word in rest[:1] if not word.startswith("-")]
    if command not in TRAINING or {"--help", "--help-all"} & set(rest) or (named and is_network(command, named[0])):
        return arguments
    return [command, *named, *SHORT, *rest[len(named) :]]


def is_network(command: str, word: str) -> bool:
    """Whether the command is about one network, and not about a recipe."""
    from harp.networks.named import is_network

    return command in ("evaluate", "export") and is_network(word)


def fresh(text: str, *arguments: str) -> str:
    """What a block prints that runs in a process of its own."""
    command = [sys.executable, "-c", text, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
