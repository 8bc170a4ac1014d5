"""An arena's pages: one for a browser, one in Markdown, one table in LaTeX; and its figure as a file."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harp.arena import figures, published
from harp.arena.schema import Dense, Result, Results
from harp.networks.comparison import LATEX
from harp.report.formats import count, file_size, share
from harp.report.templates import environment, look
from harp.runs import write_atomic


@dataclass(frozen=True)
class Line:
    """A row of the ranking in words: every measure in percent with its deviation over seeds, then sizes and cost.

    The dense networks have a row, too, but no rank.
    """

    rank: str
    row: str
    seeds: int
    measures: tuple[str, ...]
    sizes: tuple[str, ...]


ALIKE = ", classes alike"
PUBLISHED = "Published, under their own protocols; not ranked with ours"
SIZES = ("kept in the file", "MACs", "package", "times faster", "training, forwards")


def write_pages(results: Results, folder: Path) -> None:
    """arena.html, arena.md, arena.tex, results.csv and, where there is something to draw, arena.svg and arena.png."""
    facts = {
        "results": results,
        "measures": measures_of(results),
        "sizes": SIZES,
        "tables": [(keep, list(lines(results, keep))) for keep in keeps_of(results)],
        "neighbours": list(sentences(results)),
        "published": {"title": PUBLISHED, "heads": published.HEADS, "lines": published.lines(results.data)},
    }
    charts = {"accuracy": figures.accuracy(results), "shares": figures.shares(results)} if results.measured else {}
    page = environment(Path(__file__).parent).get_template("arena.html.j2").render(facts, charts=charts, **look())
    write_atomic(folder / "arena.html", page.encode())
    write_atomic(folder / "arena.md", markdown(results).encode())
    write_atomic(folder / "arena.tex", latex(results).encode())
    write_atomic(folder / "results.csv", as_csv(results).encode())
    if results.measured:
        figures.write(results, folder / "arena")


def keeps_of(results: Results) -> list[float]:
    """The budgets that have a ranking, as they were asked for."""
    return list(dict.fromkeys(standing.keep for standing in results.ranking))


def measures_of(results: Results) -> list[str]:
    """What was measured, the worst case last, and then the same with classes counting alike where they are unequal."""
    names = dict.fromkeys(name for result in results.measured for name in result.accuracies)
    ordered = [*(name for name in names if name != "worst"), *(["worst"] if "worst" in names else [])]
    uneven = any(share.balanced is not None for result in results.measured for share in result.accuracies.values())
    return [*ordered, *(name + ALIKE for name in ("clean", "worst") if uneven and name in names)]


def lines(results: Results, keep: float) -> Iterator[Line]:
    """The dense networks, then the ranking at one budget, best first."""
    if results.dense:
        cells = tuple(_measure(results.dense, name) for name in measures_of(results))
        yield Line("-", "dense", len(results.dense), cells, _dense_sizes(results.dense))
    for standing in results.ranking:
        if standing.keep == keep:
            found = [one for one in results.measured if one.row == standing.row and one.keep == keep]
            cells = tuple(_measure(found, name) for name in measures_of(results))
            yield Line(str(standing.rank), standing.row, len(found), cells, _sizes(found))


def _measure(found: Sequence[Result | Dense], name: str) -> str:
    kind = name.removesuffix(ALIKE)
    doubts = dict.fromkeys(d for one in found if kind in one.accuracies for d in one.accuracies[kind].doubts)
    if doubts:
        return f"in doubt: {', '.join(doubts)}"
    values = [100 * value for one in found if (value := _value(one, name)) is not None]
    if not values:
        return "-"
    mean = sum(values) / len(values)
    if len(values) == 1 and name.endswith(ALIKE):
        return f"{mean:.1f}"
    if len(values) == 1:
        (only,) = (one.accuracies[name] for one in found)
        return f"{mean:.1f} ({100 * only.low:.1f}-{100 * only.high:.1f})"
    deviation = (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5
    return f"{mean:.1f} ± {deviation:.1f}"


def _value(one: Result | Dense, name: str) -> float | None:
    share = one.accuracies.get(name.removesuffix(ALIKE))
    return None if share is None else share.balanced if name.endswith(ALIKE) else share.accuracy


def _sizes(found: Sequence[Result]) -> tuple[str, ...]:
    first = found[0]
    ratios = [one.latency.times_faster for one in found if one.latency is not None]
    return (
        f"{count(first.kept)} of {count(first.total)}",
        share(first.macs, first.total_macs),
        _package(found),
        f"{median(ratios):.1f}" if ratios else "-",
        _cost(found),
    )


def _dense_sizes(found: Sequence[Dense]) -> tuple[str, ...]:
    total = count(found[0].total)
    return (f"{total} of {total}", share(1, 1), _package(found), "1", _cost(found))


def _package(found: Sequence[Result | Dense]) -> str:
    packages = [one.package_bytes for one in found if one.package_bytes is not None]
    return file_size(round(sum(packages) / len(packages))) if packages else "-"


def _cost(found: Sequence[Result | Dense]) -> str:
    return f"{sum(one.forwards for one in found) / len(found):.2g}"


def sentences(results: Results) -> Iterator[str]:
    """Each row against the next in its ranking, on the same images."""
    for pair in results.neighbours:
        gap = f"{100 * pair.difference:+.1f} points ({100 * pair.low:+.1f} to {100 * pair.high:+.1f}), p = {pair.p:.2g}"
        yield f"at {share_of(pair.keep)}, {pair.better} over {pair.worse}: {gap}, n = {count(pair.n)}"


def share_of(keep: float) -> str:
    """`1 %`, of 0.01."""
    return f"{100 * keep:g} %"


def markdown(results: Results) -> str:
    """The rankings, the tests between neighbours, what failed, and apart from it what others published, as Markdown."""
    names = measures_of(results)
    out = [f"# {results.name}: recipe {results.recipe}, {_threat(results)}", ""]
    for keep in keeps_of(results):
        out += [f"## {share_of(keep)} kept", "", f"| rank | row | seeds | {' | '.join([*names, *SIZES])} |"]
        out.append("|" + "--:|:--|--:|" + "--:|" * (len(names) + len(SIZES)))
        out += [
            f"| {line.rank} | {line.row} | {line.seeds} | {' | '.join([*line.measures, *line.sizes])} |"
            for line in lines(results, keep)
        ]
        out.append("")
    if results.neighbours:
        out += [
            "## Each against the next (McNemar, the same images)",
            "",
            *(f"- {text}" for text in sentences(results)),
        ]
        out.append("")
    if results.failed:
        out += ["## Failed", ""]
        out += [f"- {one.row} at {share_of(one.keep)}, seed {one.seed}: {one.reason}" for one in results.failed]
        out.append("")
    out += [f"{results.unfinished} cells are not finished.", ""] if results.unfinished else []
    return "\n".join([*out, *_published(results.data)])


def _published(data: str) -> Iterator[str]:
    if found := published.lines(data):
        yield from (f"## {PUBLISHED}", "", f"| {' | '.join(published.HEADS)} |", "|:--" * len(published.HEADS) + "|")
        yield from (f"| {' | '.join(line)} |" for line in found)
        yield ""


def latex(results: Results) -> str:
    """The rankings as a tabular for the package booktabs, in percent."""
    names = measures_of(results)
    head = " & ".join(["kept", "row", *names]).translate(LATEX)
    out = [rf"\begin{{tabular}}{{ll{'r' * len(names)}}}", r"\toprule", rf"{head} \\"]
    for keep in keeps_of(results):
        out.append(r"\midrule")
        for line in lines(results, keep):
            cells = [share_of(keep).translate(LATEX), line.row.translate(LATEX)]
            cells += [text.translate(LATEX).replace("±", r"$\pm$") for text in line.measures]
            out.append(rf"{' & '.join(cells)} \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", ""])


def as_csv(results: Results) -> str:
    """A line for each finished cell; shares in [0, 1]."""
    out = io.StringIO()
    measures = list(dict.fromkeys(name for result in results.measured for name in result.accuracies))
    plain = ("row", "method", "keep", "seed", "n", "kept", "total", "macs", "total_macs", "bytes", "package_bytes")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*plain, *measures, "seconds", "forwards", "times_faster"])
    for result in results.measured:
        values = [result.accuracies[name].accuracy if name in result.accuracies else "" for name in measures]
        ratio = result.latency.times_faster if result.latency else ""
        writer.writerow([*(getattr(result, name) for name in plain), *values, result.seconds, result.forwards, ratio])
    return out.getvalue()


def _threat(results: Results) -> str:
    return f"norm {results.threat['norm']}, eps {results.threat['eps']:g}" if results.threat else "nothing measured yet"
