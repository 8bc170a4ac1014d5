"""Finished runs side by side: mean and spread over seeds of those that differ in nothing else."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harp.config import AFTERWARDS, EVALUATION, KINDS, make_recipe, plan
from harp.errors import HarpError
from harp.evaluation import Spread, spread
from harp.pipeline.kept import settings_in
from harp.report.reading import read_models
from harp.runs import read_json
from harp.threats import Threat

# What may differ between runs that are one row: who computed it, what it is called, and what decides no number.
APART = (
    *("seed", "name", "device", "threads", "export", "prune.source", "finetune.source", "finetune.masks"),
    *(f"evaluation.{name}" for name in AFTERWARDS),
)
LATEX = str.maketrans(
    {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"\\": "\\textbackslash{}", "^": "\\^{}", "~": "\\~{}"}
)


@dataclass(frozen=True)
class Cell:
    """One measure of one row: its value for each seed, shares in [0, 1], and the doubts that are open."""

    values: tuple[float, ...]
    doubts: tuple[str, ...] = ()

    @property
    def spread(self) -> Spread | None:
        """Mean and spread over seeds; None of a single one."""
        return spread(self.values) if len(self.values) > 1 else None

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    def __str__(self) -> str:
        """`83.2 ± 1.4`: mean and sample deviation in percent, of one seed its value, or the doubts in its place."""
        if self.doubts:
            return f"in doubt: {', '.join(self.doubts)}"
        found = self.spread
        return f"{100 * self.mean:.1f}" + (f" ± {100 * found.std:.1f}" if found else "")


@dataclass(frozen=True)
class Line:
    """The runs that differ in their seeds only: what tells them from the others, the seeds, and their measures."""

    label: str
    seeds: tuple[int, ...]
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class _Run:
    folder: Path
    seed: int
    stages: set[str]
    settings: Mapping[str, Any]
    row: Mapping[str, Any]


def compare(folders: Sequence[Path], model: str | None = None) -> list[Line]:
    """A line for each group of runs, of the network `model` ("dense", "pruned", ...), or of each run's last one.

    Raises `HarpError` for a folder without a finished evaluation or without that network, for runs that were measured
    on other images, under another threat or by other attacks, and for one seed twice in a group.
    """
    runs = [_read(folder, model) for folder in folders]
    _check_alike(runs)
    names = sorted({name for run in runs for name in run.settings})
    telling = [name for name in names if len({repr(run.settings.get(name)) for run in runs if _ran(run, name)}) > 1]
    groups: dict[tuple[str, ...], list[_Run]] = {}
    for run in runs:
        groups.setdefault(tuple(repr(run.settings.get(name)) * _ran(run, name) for name in telling), []).append(run)
    return [_line(_label(group[0], telling, runs), group) for group in groups.values()]


def measures_of(lines: Sequence[Line]) -> list[str]:
    """The measures that any line has, in the order they were recorded, the worst case last."""
    names = dict.fromkeys(name for line in lines for name in line.cells)
    return [*(name for name in names if name != "worst"), *(["worst"] if "worst" in names else [])]


def as_csv(lines: Sequence[Line]) -> str:
    """A row for each line and measure; shares in [0, 1], the interval Student's for the mean of all seeds."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["runs", "measure", "seeds", "mean", "std", "low", "high", "values", "doubts"])
    for line in lines:
        for name, cell in line.cells.items():
            found = cell.spread
            spreads = [found.std, found.low, found.high] if found else ["", "", ""]
            values, seeds = " ".join(map(str, cell.values)), " ".join(map(str, line.seeds))
            writer.writerow([line.label, name, seeds, cell.mean, *spreads, values, " ".join(cell.doubts)])
    return out.getvalue()


def as_latex(lines: Sequence[Line]) -> str:
    """A tabular for the package booktabs, in percent."""
    names = measures_of(lines)
    rows = [["", *names], *([line.label, *(_latex_cell(line.cells.get(name)) for name in names)] for line in lines)]
    first, *rest = [" & ".join([row[0].translate(LATEX), *row[1:]]) + r" \\" for row in rows]
    begin = rf"\begin{{tabular}}{{l{'r' * len(names)}}}"
    return "\n".join([begin, r"\toprule", first, r"\midrule", *rest, r"\bottomrule", r"\end{tabular}", ""])


def as_html(lines: Sequence[Line], folder: Path) -> str:
    """A page for a browser; the threat is told as recorded in the run `folder`, which is any one of those compared."""
    from harp.report.compared import Row, compared_page

    told = read_json(folder / EVALUATION / "results.json", dict[str, Any])
    threat = Threat(eps=told["threat"]["eps"], norm=float(told["threat"]["norm"]))
    rows = [
        Row(
            line.label,
            line.seeds,
            {name: str(cell) for name, cell in line.cells.items()},
            {name: cell.values for name, cell in line.cells.items() if not cell.doubts},
        )
        for line in lines
    ]
    sizes = sorted({row["worst"]["n"] for row in told["models"].values()})
    return compared_page(rows, measures_of(lines), threat, " or ".join(f"{size:,}" for size in sizes))


def _latex_cell(cell: Cell | None) -> str:
    if cell is None:
        return "--"
    return str(cell).translate(LATEX) if cell.doubts else f"${str(cell).replace('±', chr(92) + 'pm')}$"


def _read(folder: Path, model: str | None) -> _Run:
    results = folder / EVALUATION / "results.json"
    if not results.is_file():
        raise HarpError(f"{folder} holds no finished evaluation; run `harp run` or `harp evaluate` there first")
    models = read_models(results)
    recipe = make_recipe(settings_in(folder / "recipe.yaml"))
    model = model or plan(recipe.stages)[-1].network
    if model not in models:
        raise HarpError(f"{folder} has no network {model!r}; it has: {', '.join(models)}")
    settings = dict(_flat(recipe.model_dump(mode="json")))
    kept = {name: value for name, value in settings.items() if not any(_within(name, part) for part in APART)}
    return _Run(folder, recipe.seed, {stage.kind for stage in plan(recipe.stages)}, kept, models[model])


def _ran(run: _Run, name: str) -> bool:
    """Whether the run has the stage that a setting is of: of one that it has not, nothing is told."""
    return name.partition(".")[0] not in set(KINDS) - run.stages


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _label(run: _Run, telling: Sequence[str], runs: Sequence[_Run]) -> str:
    """What tells the run from the others; its folder where nothing does."""
    alike = [other for other in runs if other.settings["prune.method"] == run.settings["prune.method"]]
    # A method has no options of another's; of its own one that is not there is the default.
    known = [name for name in telling if _ran(run, name) and any(name in other.settings for other in alike)]
    parts = [f"{_short(name, telling)} {run.settings.get(name, 'default')}" for name in known]
    return ", ".join(parts) or run.folder.name


def _short(name: str, names: Sequence[str]) -> str:
    """The last part of a setting's name, where it is the only one so called."""
    last = name.rpartition(".")[2]
    return last if [other.rpartition(".")[2] for other in names].count(last) == 1 else name


def _within(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def _check_alike(runs: Sequence[_Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for what, name in (("images", "data.json"), ("threat or attacks", "evaluation/results.json")):
            mine, theirs = (_told(one.folder / name) for one in (first, run))
            if mine != theirs:
                raise HarpError(f"{run.folder} and {first.folder} were measured with other {what}: they do not compare")


def _told(path: Path) -> Any:
    value = read_json(path, dict[str, Any])
    return value.get("fingerprint") or (value.get("threat"), value.get("attacks"))


def _line(label: str, group: Sequence[_Run]) -> Line:
    seeds = tuple(run.seed for run in group)
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        folders = ", ".join(str(run.folder) for run in group if run.seed == twice[0])
        raise HarpError(f"seed {twice[0]} is there twice: {folders} differ in nothing that is compared")
    cells = {"kept": Cell(tuple(run.row["kept"] / run.row["total"] for run in group))}
    for name, value in group[0].row.items():
        if isinstance(value, Mapping) and all(name in run.row for run in group):
            rows = [run.row[name] for run in group]
            doubts = tuple(dict.fromkeys(doubt for row in rows for doubt in row.get("doubts", ())))
            cells[name] = Cell(tuple(row["accuracy"] for row in rows), doubts)
    return Line(label, seeds, cells)
