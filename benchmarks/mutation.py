"""How many small faults planted in a room's code the room's own tests notice: mutants by mutmut, drawn by a seed.

    .venv/bin/pip install mutmut==3.8.1
    .venv/bin/python benchmarks/mutation.py [ROOM ...] [--mutants 50] [--seed 0] [--processes N] [--json FILE]

For each room HEAD is copied to runs/mutation/ROOM and there `src/harp/ROOM` is mutated; of all mutants as many are
drawn and run against those tests of `tests/ROOM` that reach the function. Two things are unlike mutmut by itself. It
leaves decorated functions out, which here are most entry points, so in the copy each becomes a decorated one that only
calls its undecorated body. And mutants that change nothing but the words of a sentence (a text with a space in it) are
not drawn: what a message says is tested by its words that matter, not letter by letter. A room whose record is there
is not run again.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import libcst
import torch
from mutmut.stats import status_by_exit_code

from harp.evaluation.statistics import wilson
from harp.runs import environment, write_json

ROOMS = ("pruners", "sparsity", "evaluation", "package", "runtime")
FOLDER = Path("runs/mutation")
NOTICED = ("killed", "timeout", "segfault")
CONFIG = """
[mutmut]
source_paths=
    src
only_mutate=
    src/harp/{room}/*
pytest_add_cli_args_test_selection=
    tests/{room}
pytest_add_cli_args=
    -p
    no:cacheprovider
process_isolation=forkserver
also_copy=
    README.md
    docs
    examples
    src/harp/runtime
timeout_constant=20
timeout_multiplier=2
track_dependencies=false
"""


class _Split(libcst.CSTTransformer):
    """Each decorated function becomes one that calls its body, a function of its own without decorators."""

    def __init__(self) -> None:
        super().__init__()
        self.classes: list[str] = []

    def visit_ClassDef(self, node: libcst.ClassDef) -> None:  # noqa: N802
        self.classes.append(node.name.value)

    def leave_ClassDef(self, original_node: libcst.ClassDef, updated_node: libcst.ClassDef) -> libcst.ClassDef:  # noqa: N802
        self.classes.pop()
        return updated_node

    def leave_FunctionDef(  # noqa: N802
        self, original_node: libcst.FunctionDef, updated_node: libcst.FunctionDef
    ) -> libcst.FunctionDef | libcst.FlattenSentinel[libcst.BaseStatement]:
        source = libcst.Module([]).code_for_node
        named = [source(decorator.decorator) for decorator in updated_node.decorators]
        apart = ("abstractmethod", "overload", "classmethod", "staticmethod", "setter", "fixture", "hookimpl", "cuda")
        if not named or any(word in name for name in named for word in apart):
            return updated_node
        # With the class's name: a subclass has a body of its own under the same one.
        body = "_".join(["plain", *self.classes[-1:], updated_node.name.value.strip("_")])
        given = updated_node.params
        names = [param.name.value for param in (*given.posonly_params, *given.params)]
        method = names[:1] == ["self"]
        passed = [
            *names[method:],
            *([f"*{given.star_arg.name.value}"] if isinstance(given.star_arg, libcst.Param) else []),
        ]
        passed += [f"{param.name.value}={param.name.value}" for param in given.kwonly_params]
        passed += [f"**{given.star_kwarg.name.value}"] if given.star_kwarg else []
        call = f"return {'self.' if method else ''}{body}({', '.join(passed)})"
        bare = updated_node.with_changes(decorators=[], name=libcst.Name(body))
        told = [] if updated_node.get_docstring() is None else [updated_node.body.body[0]]
        calling = libcst.IndentedBlock([*told, libcst.parse_statement(call)])
        return libcst.FlattenSentinel([bare, updated_node.with_changes(body=calling)])


def copied(room: str) -> Path:
    """A copy of HEAD, engine included, with the room's decorated functions split and mutmut's settings written."""
    folder = FOLDER / room
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", ".", str(folder)], check=True)
    for built in Path("src/harp/runtime").glob("*.so"):
        shutil.copy(built, folder / built)
    for path in (folder / "src/harp" / room).rglob("*.py"):
        path.write_text(libcst.parse_module(path.read_text()).visit(_Split()).code)
    # Between a caller and the function there is one of mutmut's, which warnings are then told to come from.
    for path in (folder / "tests" / room).rglob("test_*.py"):
        path.write_text("".join(x for x in path.read_text().splitlines(True) if ".filename == __file__" not in x))
    (folder / "setup.cfg").write_text(CONFIG.format(room=room))
    return folder


def mutmut(folder: Path, *arguments: str) -> str:
    ambient = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    command = [sys.executable, "-m", "mutmut", *arguments]
    done = subprocess.run(command, cwd=folder, env=ambient, capture_output=True, text=True)
    if arguments[0] == "run":
        (folder / "mutmut.log").write_text(done.stdout + done.stderr)
    return done.stdout


def verdicts(folder: Path) -> dict[str, str]:
    """What became of each mutant, by its name."""
    metas = [json.loads(path.read_text()) for path in sorted((folder / "mutants").rglob("*.py.meta"))]
    return {name: status_by_exit_code[code] for meta in metas for name, code in meta["exit_code_by_key"].items()}


def changed(folder: Path, mutant: str) -> list[str]:
    """The lines of the mutant's difference, without headers."""
    lines = mutmut(folder, "show", mutant).splitlines()
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def in_words_only(lines: list[str]) -> bool:
    """Whether the lines differ in nothing but texts with a space in them."""
    strings: list[list[str]] = [[], []]
    rest = []
    for sign, texts in zip("-+", strings, strict=True):
        code = "\n".join(line[1:] for line in lines if line.startswith(sign))
        kept, parts = "", code.split('"')
        for number, part in enumerate(parts):
            inside = number % 2 == 1
            if inside and " " in part:
                texts.append(part)
            else:
                kept += part
        rest.append(kept)
    return rest[0] == rest[1] and strings[0] != strings[1]


def measure(room: str, count: int, seed: int, processes: int) -> dict[str, Any]:
    folder = copied(room)
    mutmut(folder, "run", "none.of.them")
    names = sorted(verdicts(folder))
    if not (folder / "mutants/mutmut-stats.json").exists():
        raise SystemExit(f"{room}: its tests do not pass before anything is mutated; see {folder / 'mutmut.log'}")
    random.Random(seed).shuffle(names)
    drawn: list[str] = []
    differences = {}
    for name in names:
        if len(drawn) == count:
            break
        lines = changed(folder, name)
        if lines and not in_words_only(lines):
            drawn.append(name)
            differences[name] = lines
    mutmut(folder, "run", "--max-children", str(processes), *drawn)
    ended = {name: verdicts(folder)[name] for name in drawn}
    left = {name: {"ended": end, "lines": differences[name]} for name, end in ended.items() if end not in NOTICED}
    return {"room": room, "mutants": len(names), "drawn": len(drawn), "noticed": len(drawn) - len(left), "left": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rooms", nargs="*", default=ROOMS)
    parser.add_argument("--mutants", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for room in asked.rooms:
        path = FOLDER / f"{room}-{asked.mutants}-{asked.seed}.json"
        if not path.exists():
            FOLDER.mkdir(parents=True, exist_ok=True)
            write_json(path, measure(room, asked.mutants, asked.seed, asked.processes))
        rows.append(json.loads(path.read_text()))
        print_row(rows[-1])
    together = {key: sum(row[key] for row in rows) for key in ("mutants", "drawn", "noticed")}
    print_row({"room": "together", **together, "left": {}})
    if asked.json:
        record = {
            "command": " ".join(sys.argv),
            "mutmut": version("mutmut"),
            "environment": environment(torch.device("cpu")),
        }
        write_json(asked.json, {**record, "rooms": rows, "together": together})


def print_row(row: dict[str, Any]) -> None:
    low, high = wilson(row["noticed"], row["drawn"])
    score = f"{100 * row['noticed'] / row['drawn']:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
    print(f"{row['room']}: {row['noticed']} of {row['drawn']} noticed, {score}; {row['mutants']} mutants in all")
    for name, left in row["left"].items():
        print(f"  {left['ended']}: {name}", *left["lines"], sep="\n    ")


if __name__ == "__main__":
    main()
