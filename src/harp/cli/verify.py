"""`harp verify FILE`: a line for each check of a package, and exit status 2 where one fails."""

from pathlib import Path

from harp.cli.flags import Parser
from harp.cli.recipes import NETWORK, RecipeFlags, network_values
from harp.config import make_recipe
from harp.errors import HarpError


def verify_file(arguments: list[str]) -> None:
    """Prints every check of one package; raises `HarpError` where one fails, or there is no source as named."""
    parser = Parser(
        "verify",
        usage="harp verify FILE [--source NETWORK] [--SECTION.NAME VALUE ...]",
        description="Whether a package is whole, keeps its budget, and is the network it was made from: checksums, "
        "structure, counted weights, logits.",
        first=NETWORK,
    )
    parser.add_argument("file", type=Path, help="the package")
    parser.add_argument(
        "--source", metavar="NETWORK", help="the run or file it was made from (default: the run that FILE lies in)"
    )
    own, above = parser.read(arguments, RecipeFlags)

    from harp.export import Source, verify
    from harp.networks.named import find_network, loaded, run_of
    from harp.pipeline import Workspace
    from harp.pipeline.display import Display

    if not own.file.is_file():
        raise HarpError(f"no file {own.file}")
    target, source = own.source or run_of(own.file.absolute()), None
    if target is not None:
        network = find_network(str(target))
        if network.weights is None:
            raise HarpError(f"--source {target}: expected a run's folder, or a file of weights in it")
        work = Workspace(make_recipe(network_values(str(target), network.settings, {"device": "cpu"}, above)))
        images, _ = next(work.in_order(work.split.test, 64).once())
        source = Source(loaded(work, network.weights), network.weights, images)
    display, failed = Display(), []
    for check in verify(own.file, source):
        display.say(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.found}")
        failed += [] if check.passed else [check.name]
    if source is None:
        display.say("not compared with its source: --source RUN names it")
    if failed:
        raise HarpError(f"{own.file} failed: {', '.join(failed)}")
