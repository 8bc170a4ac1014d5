"""`harp bench`: any network under every runner that is installed, in turns, as tables, a file and a chart."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.table import Table

from harp.cli.flags import Parser, check_count
from harp.cli.recipes import NETWORK, RecipeFlags, network_values
from harp.config import make_recipe
from harp.errors import HarpError


def bench_network(arguments: list[str]) -> None:
    """Measures one network and prints what came out; raises `HarpError` for what cannot be found, built or run."""
    parser = Parser(
        "bench",
        usage="harp bench MODEL [--weights FILE] [--threads N] [--batch N,N] [--out FILE] [--SECTION.NAME VALUE ...]",
        description="Latency, throughput, memory, accuracy and file sizes of one network on this machine's CPU: harp's "
        "engine beside PyTorch, ONNX Runtime and OpenVINO in float32, bfloat16 and int8, with as many threads each, in "
        "turns.",
        first=NETWORK,
    )
    parser.add_argument(
        "network", metavar="MODEL", help="a run's folder, a safetensors file or package, or a model as in --model.name"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors state dictionary of the model")
    parser.add_argument("--batch", type=sizes, default=(1, 64), metavar="N,N", help="batch sizes (default: 1,64)")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds of turns (default: 20)")
    parser.add_argument("--compile", action="store_true", help="with torch.compile, which takes a minute to get ready")
    parser.add_argument("--no-memory", action="store_true", help="without the processes in which memory is measured")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write all of it as JSON, and .png and .svg charts")
    parser.add_trust()
    own, above = parser.read(arguments, RecipeFlags)
    check_count("--rounds", own.rounds, 10**6)
    check_count("--batch", max(own.batch), 10**5)

    from harp.bench import Plan, bench, subjects
    from harp.networks.named import find_network
    from harp.networks.trust import check_named
    from harp.pipeline.display import Display
    from harp.pipeline.kept import settings_in
    from harp.processor import sentence

    network, display = find_network(own.network, own.weights), Display()
    # A run's own evaluation settings say which images are on record.
    run = network.told_by
    whole = settings_in(run / "recipe.yaml") if run else network.settings
    values = network_values(own.network, whole, {"threads": 1, "device": "cpu"}, above)
    recipe = make_recipe(values)
    check_named(recipe, network.told_by, above, own.trust)
    if recipe.device != "cpu":
        raise HarpError(f"device: expected cpu, where packages run, got {recipe.device!r}")
    plan = Plan(recipe.threads or 1, own.batch, own.rounds, own.compile, not own.no_memory)
    with TemporaryDirectory() as folder:
        found = bench(*subjects(network, recipe, Path(folder)), plan, display)
    found = {"network": network.label, **found}
    display.say(f"processor: {sentence()}")
    for table in (latency_table(found), ratio_table(found), *accuracy_tables(found), size_table(found)):
        display.console.print(table)
    for line in claims(found):
        display.say(line)
    for name, reason in found["left_out"].items():
        display.say(f"not measured: {name}: {reason}")
    if own.out:
        for path in write(found, own.out):
            display.say(f"written: {path}")


def sizes(text: str) -> tuple[int, ...]:
    """Batch sizes from `1,64`; raises `ValueError` where there is one below 1."""
    found = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    if min(found) < 1:
        raise ValueError(text)
    return found


def write(found: Mapping[str, Any], path: Path) -> Iterator[Path]:
    """The paths of the JSON file and of the charts beside it, written."""
    from harp.report.speed import write_latencies
    from harp.runs import write_json

    write_json(path, found)
    yield path
    latencies = {
        batch: {name: (row["wall"]["median"], row["wall"]["p10"]) for name, row in rows.items()}
        for batch, rows in found["batches"].items()
    }
    title = f"{found['network']}, {_threads(found)}: median, and down to the 10 % quantile"
    yield from write_latencies(path.with_suffix(""), latencies, title)


def latency_table(found: Mapping[str, Any]) -> Table:
    """A row for each batch and runner: what a call takes by the clock and of the processor, and what it needs."""
    grid = _grid(
        "", "ms a call", "p10", "CPU ms", "images/s", "off by", "MB", title=f"{found['network']}, {_threads(found)}"
    )
    for batch, rows in found["batches"].items():
        grid.add_section()
        grid.add_row(f"batch {batch}")
        for name, row in rows.items():
            times = [1000 * value for value in (row["wall"]["median"], row["wall"]["p10"], row["cpu"]["median"])]
            held = row.get("memory")
            memory = f"{held['peak'] / 1e6:,.0f}" if held else "-"
            speed = f"{row['images_per_second']:,.0f}"
            grid.add_row(f"  {name}", *(f"{ms:.3g}" for ms in times), speed, f"{row['difference']:.0e}", memory)
    return grid


def ratio_table(found: Mapping[str, Any]) -> Table:
    """How many times less processor time each runner takes than each baseline, with 95 % intervals."""
    baselines = found["baselines"]
    grid = _grid("times faster than", *baselines, title="in processor time, with 95 % intervals")
    for batch, rows in found["batches"].items():
        for name, row in rows.items():
            if name not in baselines:
                cells = [row["times_faster"][other] for other in baselines]
                texts = [f"{cell['ratio']:.3g}\n{cell['low']:.3g}-{cell['high']:.3g}" for cell in cells]
                grid.add_row(f"{name}, batch {batch}", *texts)
    return grid


def claims(found: Mapping[str, Any]) -> Iterator[str]:
    """For each batch, how fast harp's engine is beside the quickest of all others."""
    for batch, best in found["best"].items():
        ratio = found["batches"][batch]["harp"]["times_faster"][best]
        times = f"{ratio['ratio']:.3g} ({ratio['low']:.3g}-{ratio['high']:.3g})"
        yield f"batch {batch}: harp's engine takes {times} times less processor time than the best of them, {best}"
    if not found["judged"]:
        yield "accuracies are told where the network lies in a run with a finished evaluation"


def accuracy_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """A row for each runner: what is right by its own verdicts; no table where there is no record of an evaluation."""
    if not found["judged"]:
        return
    grid = _grid("", "clean, %", "robust, %", "n", "verdicts that differ", title="on the images on record")
    for name, row in found["judged"].items():
        clean, worst = (row["measures"][measure] for measure in ("clean", "worst"))
        accuracies = (f"{100 * part['accuracy']:.1f}" for part in (clean, worst))
        grid.add_row(name, *accuracies, f"{clean['n']:,}", f"{row['different']:,} of {row['compared']:,}")
    yield grid


def size_table(found: Mapping[str, Any]) -> Table:
    """Files in bytes, and how many times smaller the package is."""
    grid = _grid("file", "bytes", "times the package", title=None)
    for name, size in found["sizes"].items():
        grid.add_row(name, f"{size:,}", f"{size / found['sizes']['package']:.3g}")
    return grid


def _threads(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{found[name]} {name[:-1] if found[name] == 1 else name}" for name in ("threads", "rounds"))


def _grid(first: str, *numbers: str, title: str | None) -> Table:
    grid = Table(title=title)
    grid.add_column(first, overflow="fold")
    for name in numbers:
        grid.add_column(name, justify="right", overflow="fold")
    return grid
