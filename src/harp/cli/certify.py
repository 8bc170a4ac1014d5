"""`harp certify`: how far images may move without another answer, proved by answers under noise."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from harp.cli.flags import Parser, check_count
from harp.cli.recipes import NETWORK, RecipeFlags, lengthened, network_values
from harp.config import identity, make_recipe, measured
from harp.errors import HarpError


def certify_network(arguments: list[str]) -> None:
    """Certifies the test images of one network and prints what was proved; `HarpError` as `harp evaluate` raises it."""
    parser = Parser(
        "certify",
        usage="harp certify NETWORK --sigma S [--radius R] [--samples N] [--images N] [--SECTION.NAME VALUE ...]",
        description="Certified accuracy by randomised smoothing in the 2-norm: of which test images the network, asked "
        "under Gaussian noise, is proved to answer rightly within a radius. Train it under such noise first "
        "(objective gaussian or consistency). In this command --evaluation.NAME may be written --NAME.",
        first=(*NETWORK, "evaluation.images"),
    )
    parser.add_argument("network", help="a run's folder, a safetensors file or package, or a model as in --model.name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors state dictionary of the model")
    parser.add_argument("--sigma", type=float, required=True, help="the noise's deviation, pixels being from 0 to 1")
    parser.add_argument(
        "--radius", type=float, metavar="R", help="prove this radius or not, and stop as soon as that is decided"
    )
    parser.add_argument("--samples", type=int, default=10_000, metavar="N", help="answers an image (default: 10000)")
    parser.add_argument("--alpha", type=float, default=0.001, help="chance of a wrong proof, an image (default: 0.001)")
    parser.add_argument("--batch", type=int, default=100, metavar="N", help="images at once (default: 100)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the record (default: certificates/NAME-IDENTITY)")
    parser.add_trust()
    own, above = parser.read(lengthened("evaluate", arguments), RecipeFlags)
    check_count("--samples", own.samples, 10**8)
    check_count("--batch", own.batch, 10**5)

    from harp.certify import Smoothing
    from harp.networks.certifying import certify_run
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
    asked = Smoothing(own.sigma, own.samples, own.alpha, at=own.radius, batch=own.batch, seed=recipe.seed)
    word = f"{asked.sigma:g}" + (f"-{asked.at:g}" if asked.at is not None else "")
    folder = own.folder or Path("certificates") / f"{network.label}-{word}-{identity(measured(recipe))}"
    work = Workspace(recipe, folder)
    model = loaded(work, network.weights)
    work.run.claim()
    try:
        _, told = certify_run(work, model, asked, folder, network.label)
    finally:
        work.run.release()
    work.display.console.print(certified_table(told))
    for note in told["data"]["notes"]:
        work.display.say(f"note: {note}")
    work.display.say(f"record: {folder}")


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
