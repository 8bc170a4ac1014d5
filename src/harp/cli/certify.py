"""`harp certify`: how far images may move without another answer, proved by answers under noise or by intervals."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from harp.cli.flags import Parser, check_count
from harp.cli.recipes import NETWORK, RecipeFlags, lengthened, network_values
from harp.config import Recipe, identity, make_recipe, measured
from harp.errors import HarpError

Prover = Callable[[Any, Any, Path, str], tuple[Table, Mapping[str, Any]]]
"""Proves what it can of a workspace's test images and a network, into a folder, under a title: a table, and all of it.
"""


SMOOTHING = {"sigma": None, "radius": None, "samples": 10_000, "alpha": 0.001}
"""What only proofs by smoothing are told, and their defaults."""


def certify_network(arguments: list[str]) -> None:
    """Certifies the test images of one network and prints what was proved; `HarpError` as `harp evaluate` raises it."""
    own, above = _parser().read(lengthened("evaluate", arguments), RecipeFlags)
    asked = _asked(own)
    check_count("--batch", own.batch, 10**5)

    from harp.networks.named import find_network, loaded
    from harp.networks.trust import check_named
    from harp.pipeline import Workspace

    network = find_network(own.network, own.weights)
    recipe = make_recipe(network_values(own.network, network.settings, above))
    check_named(recipe, network.told_by, above, own.trust)
    if network.images is not None and "name" not in above.get("data", {}):
        raise HarpError(
            f"{own.network} says that its images are {network.images}, which is not fetched or run at a file's word; "
            f"--data.name {network.images} asks for them"
        )
    prove, word = (_smoothed if own.by == "smoothing" else _bounded)(asked, own.batch, recipe)
    folder = own.folder or Path("certificates") / f"{network.label}-{word}-{identity(measured(recipe))}"
    work = Workspace(recipe, folder)
    model = loaded(work, network.weights)
    work.run.claim()
    try:
        table, told = prove(work, model, folder, network.label)
    finally:
        work.run.release()
    work.display.console.print(table)
    for note in told["data"]["notes"]:
        work.display.say(f"note: {note}")
    work.display.say(f"record: {folder}")


def _parser() -> Parser:
    parser = Parser(
        "certify",
        usage="harp certify NETWORK --sigma S [--radius R] [--samples N] [--images N] [--SECTION.NAME VALUE ...]\n"
        "       harp certify NETWORK --by intervals [--threat.eps EPS] [--images N] [--SECTION.NAME VALUE ...]",
        description="What is proved of a network's answers to its test images. By smoothing: of which of them the "
        "network, asked under Gaussian noise, answers rightly within a radius in the 2-norm; train it under such noise "
        "first (objective gaussian, consistency or smoothadv). By intervals: of which the network itself answers "
        "rightly within the threat, in the inf-norm; cheap, and seldom much. In this command --evaluation.NAME may be "
        "written --NAME.",
        first=(*NETWORK, "evaluation.images"),
    )
    parser.add_argument("network", help="a run's folder, a safetensors file or package, or a model as in --model.name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors state dictionary of the model")
    parser.add_argument("--by", choices=("smoothing", "intervals"), default="smoothing", help="(default: smoothing)")
    parser.add_argument("--sigma", type=float, help="smoothing: the noise's deviation, pixels being from 0 to 1")
    parser.add_argument(
        "--radius",
        type=float,
        metavar="R",
        help="smoothing: prove this radius or not, and stop as soon as it is decided",
    )
    parser.add_argument("--samples", type=int, metavar="N", help="smoothing: answers an image (default: 10000)")
    parser.add_argument("--alpha", type=float, help="smoothing: chance of a wrong proof, an image (default: 0.001)")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="images at once (default: 100)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the record (default: certificates/NAME-IDENTITY)")
    parser.add_trust()
    return parser


def _asked(own: Any) -> dict[str, Any]:
    """What smoothing is told; raises `HarpError` where that is said to intervals, or says too little."""
    given = {name: value for name in SMOOTHING if (value := getattr(own, name)) is not None}
    if own.by == "intervals":
        if given:
            raise HarpError(f"--{next(iter(given))} is of proofs by smoothing; intervals are told --threat.eps alone")
        return {}
    if "sigma" not in given:
        raise HarpError(
            "--sigma is missing: the deviation of the noise that the network was trained under, such as 0.25; "
            "--by intervals needs none"
        )
    asked = SMOOTHING | given
    check_count("--samples", asked["samples"], 10**8)
    return asked


def _smoothed(asked: Mapping[str, Any], batch: int, recipe: Recipe) -> tuple[Prover, str]:
    from harp.certify import Smoothing
    from harp.networks.certifying import certify_run

    sigma, at = asked["sigma"], asked["radius"]
    smoothing = Smoothing(sigma, asked["samples"], asked["alpha"], at=at, batch=batch, seed=recipe.seed)

    def prove(work: Any, model: Any, folder: Path, label: str) -> tuple[Table, Mapping[str, Any]]:
        _, told = certify_run(work, model, smoothing, folder, label)
        return certified_table(told), told

    return prove, f"{sigma:g}" + (f"-{at:g}" if at is not None else "")


def _bounded(asked: Mapping[str, Any], batch: int, recipe: Recipe) -> tuple[Prover, str]:
    from harp.networks.bounding import bound_run

    def prove(work: Any, model: Any, folder: Path, label: str) -> tuple[Table, Mapping[str, Any]]:
        _, told = bound_run(work, model, folder, label, batch)
        return bounded_table(told), told

    return prove, "intervals"


def bounded_table(told: Mapping[str, Any]) -> Table:
    """Who is right, and who is proved to be within the threat."""
    grid = Table(
        title=f"{told['network']}: proved by intervals, in %, with 95 % intervals; L-inf, eps {told['threat']['eps']}",
        caption=f"n = {told['data']['images']:,}; the robust accuracy lies between the two",
    )
    grid.add_column("")
    grid.add_column("right", justify="right")
    grid.add_row("proved within eps", _percent(told["proved"]))
    grid.add_row("as they are", _percent(told["right"]))
    return grid


def certified_table(told: Mapping[str, Any]) -> Table:
    """A row for each radius, the abstentions, and the answers that it took."""
    asked, n = told["smoothing"], told["data"]["images"]
    grid = Table(
        title=f"{told['network']}: certified accuracy in %, with 95 % intervals; 2-norm, sigma {asked['sigma']:g}, "
        f"wrong with a chance of at most {asked['alpha']:g} an image",
        caption=f"n = {n:,}; {told['answers'] / max(n, 1):,.0f} answers an image",
    )
    grid.add_column("radius")
    grid.add_column("certified", justify="right")
    shown = {0.0, 0.25, 0.5, 0.75, 1.0, asked["at"]}
    for row in told["certified"]:
        if row["radius"] in shown:
            grid.add_row(f"{row['radius']:g}", _percent(row))
    grid.add_row("abstained", _percent(told["abstained"]))
    if told["undecided"]["share"]:
        grid.add_row("undecided", _percent(told["undecided"]))
    return grid


def _percent(cell: Mapping[str, Any]) -> str:
    return f"{100 * cell['share']:.1f} ({100 * cell['low']:.1f}-{100 * cell['high']:.1f})"
