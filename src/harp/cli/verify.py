"""`harp verify FILE`: a line for each check of a package, and exit status 2 where one fails."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harp.cli.flags import Parser
from harp.cli.recipes import NETWORK, RecipeFlags, network_values
from harp.config import loses_channels, make_recipe
from harp.errors import HarpError

if TYPE_CHECKING:
    from harp.export import Source

REBUILDING = ("seed", "threads", "data", "model", "precision")


def verify_file(arguments: list[str]) -> None:
    """Prints every check of one package; raises `HarpError` where one fails, or there is no source as named."""
    parser = Parser(
        "verify",
        usage="harp verify FILE [--source NETWORK] [--SECTION.NAME VALUE ...]",
        description="Whether a package is whole, keeps its budget, and is the network it was made from: checksums, "
        "structure, counted weights, logits. No code that a run's folder names is run, and nothing is fetched.",
        first=NETWORK,
    )
    parser.add_argument("file", type=Path, help="the package")
    parser.add_argument(
        "--source", metavar="NETWORK", help="the run or file it was made from (default: the run that FILE lies in)"
    )
    own, above = parser.read(arguments, RecipeFlags)

    from harp.export import verify
    from harp.networks.named import run_of
    from harp.pipeline.display import Display

    if not own.file.is_file():
        raise HarpError(f"no file {own.file}")
    target, source, lacking = own.source or run_of(own.file.absolute()), None, "--source RUN names it"
    if target is not None:
        source, refused = find_source(str(target), above)
        lacking = refused or lacking
        if own.source and refused:
            raise HarpError(f"--source {refused}")
    display, failed = Display(), []
    for check in verify(own.file, source):
        display.say(f"{'ok    ' if check.passed else 'FAILED'} {check.name}: {check.found}")
        failed += [] if check.passed else [check.name]
    if source is None:
        display.say(f"not compared with its source: {lacking}")
    if failed:
        raise HarpError(f"{own.file} failed: {', '.join(failed)}")


def find_source(target: str, above: Mapping[str, Any]) -> "tuple[Source | None, str]":
    """The network that `target` names, or why it is not built: its run names code, which whoever verifies did not."""
    from harp.export import Source
    from harp.networks.named import find_network, loaded
    from harp.networks.trust import reaching
    from harp.pipeline import Workspace

    network = find_network(target)
    if network.weights is None:
        raise HarpError(f"--source {target}: expected a run's folder, or a file of weights in it")
    told = network.settings
    # Method and objective are of no use here and may be somebody's code; what tells the network's shape stays.
    kept = {name: told[name] for name in REBUILDING if name in told}
    kept["prune"] = {"granularity": "channels"} if loses_channels(make_recipe(told)) else {}
    recipe = make_recipe(network_values(target, kept, {"device": "cpu"}, above))
    for name, _ in reaching(recipe, above) if network.told_by else ():
        return None, f"{target} names {name}, which is neither run nor fetched here; name it yourself, as a setting"
    work = Workspace(recipe)
    images, _ = next(work.in_order(work.split.test, 64).once())
    return Source(loaded(work, network.weights), network.weights, images), ""
