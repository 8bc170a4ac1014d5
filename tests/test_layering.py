"""The floor plan, held: a room imports only from layers below its own (docs/architecture.md)."""

import ast
from pathlib import Path

import pytest

LAYERS = (
    {
        *("ambient", "errors", "config", "registry", "randomness", "runs", "files", "trees", "clock", "threats"),
        *(
            "modes",
            "extras",
            "sources",
            "version",
            "wrappers",
            "copies",
            "drafts",
            "lazily",
            "seals",
            "processor",
            "quiet",
            "own",
            "written",
            "notation",
            "ranks",
            "consent",
        ),
    },
    {"sparsity", "attacks", "models", "data", "graph", "boards"},
    {"pruners", "objectives", "package", "runtime", "certify"},
    {"training", "evaluation", "export", "report", "deploy"},
    {"pipeline", "zoo"},
    {"networks"},
    {"stages", "bench", "hub"},
    {"arena", "probing", "pruning"},
    {"watching", "tuning"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
SOURCE = Path(__file__).parents[1] / "src" / "harp"
FILES = sorted(SOURCE.rglob("*.py"))
TOP = {"__init__.py", "__main__.py"}  # the public names and `python -m harp` may see everything
GROUND = {
    "ambient": {"errors"},
    "copies": {"errors", "modes"},
    "modes": {"errors"},
    "config": {"errors", "clock", "notation"},
    "own": {"consent", "errors", "sources"},
    "ranks": {"errors", "files"},
    "registry": {"errors", "own"},
    "files": {"errors", "drafts"},
    "trees": {"errors", "files"},
    "runs": {"errors", "files", "processor", "trees", "version"},
    "extras": {"errors"},
    "seals": {"errors", "runs"},
    "threats": {"errors", "randomness", "notation"},
    "written": {"config"},
}


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        rooms |= {name.split(".")[1] for name in names if name.startswith("harp.")}
    return rooms


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_only_from_below(path: Path):
    if path.parent == SOURCE and path.name in TOP:
        return
    room = room_of(path)
    for other in imported_rooms(path) - {room}:
        if other not in LEVEL:  # a public name through `from harp import ...`, which only the command line may use
            assert room == "cli", f"{room} imports {other} through the package's front door"
        elif LEVEL[room] == LEVEL[other] == 0:
            assert other in GROUND.get(room, set()), f"{room} imports its sibling {other}"
        else:
            assert LEVEL[other] < LEVEL[room], f"{room} (layer {LEVEL[room]}) imports {other} (layer {LEVEL[other]})"


def test_every_file_has_a_place():
    assert {room_of(path) for path in FILES} - {"__init__", "__main__"} == set(LEVEL)


def test_no_file_is_long():
    long = {str(p.relative_to(SOURCE)): n for p in FILES if (n := len(p.read_text().splitlines())) > 250}
    assert not long
