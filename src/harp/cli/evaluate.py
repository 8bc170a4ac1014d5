"""`harp evaluate` for any network: one record, a table, and a number to quote only where nothing speaks against it."""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harp.cli.flags import Parser
from harp.cli.recipes import NETWORK, RecipeFlags, lengthened, network_values
from harp.config import identity, make_recipe, measured
from harp.errors import HarpError

if TYPE_CHECKING:
    from harp.pipeline import Workspace

UNTRAINED = "random"
HEADLINE = {"evaluation": {"attacks": ["standard"]}}


def evaluate_network(arguments: list[str]) -> None:
    """Evaluates one network and prints what came out; raises `HarpError` for what cannot be found, built or met."""
    own, above = _read(arguments)

    from harp.evaluation import RESULT
    from harp.networks.assess import assess_run, check
    from harp.networks.corrupted import corruption_table
    from harp.networks.named import find_network, loaded, untrained
    from harp.networks.transferring import others_for
    from harp.networks.trust import check_named
    from harp.pipeline import Workspace
    from harp.runs import read_json
    from harp.zoo import repeats

    drawn = own.weights == UNTRAINED
    network = find_network(own.network, Path(own.weights) if own.weights and not drawn else None)
    headline = {} if network.card else HEADLINE
    recipe = make_recipe(network_values(own.network, network.settings, headline, above))
    check_named(recipe, network.told_by, above, own.trust)
    if network.images is not None and "name" not in above.get("data", {}):
        raise HarpError(
            f"{own.network} says that its images are {network.images}, which is not fetched or run at a file's word; "
            f"--data.name {network.images} asks for them"
        )
    sources = "".join(f"-from-{find_network(target).label}" for target in own.transfer)
    folder = own.folder or Path("evaluations") / f"{network.label}-{identity(measured(recipe))}{sources}"
    work = Workspace(recipe, folder)
    check(recipe.evaluation, work.threat.norm)
    model = loaded(work, network.weights, gradients=network.card is not None)
    if network.weights is None and not drawn and untrained(work):
        raise HarpError(
            f"{own.network} comes without weights, and its seed would draw them: name a file by --weights FILE, or say "
            f"--weights {UNTRAINED} to measure it untrained"
        )
    others = others_for(work, own.transfer, own.trust)
    work.run.claim()
    try:
        outcome = assess_run(work, model, folder, network.label, transfers=others)
        saved = _saved(work, folder, own.save_images)
    finally:
        work.run.release()
    _show(work, network.label, outcome.values())
    if recipe.evaluation.corruptions:
        work.display.console.print(corruption_table(read_json(folder / RESULT)["corruptions"]))
    said = repeats(network.card, read_json(folder / RESULT)) if network.card is not None else ()
    for line in (*said, *saved, f"record: {folder}"):
        work.display.say(line)


def _read(arguments: list[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """The command's own arguments, and the settings among them."""
    parser = Parser(
        "evaluate",
        usage="harp evaluate NETWORK [--weights FILE] [--transfer NETWORK] [--save-images FILE] [--folder DIR] "
        "[--SECTION.NAME VALUE ...]",
        description="Robust accuracy of one network, by AutoAttack as its authors run it unless --attacks says "
        "otherwise. In this command --evaluation.NAME may be written --NAME.",
        first=(*NETWORK, "evaluation."),
    )
    parser.add_argument("network", help="a run's folder, a safetensors file, zoo:NAME, or a model as in --model.name")
    parser.add_argument(
        "--weights", metavar="FILE", help="safetensors state dictionary of the model, or `random` for untrained weights"
    )
    parser.add_argument(
        "--transfer",
        action="append",
        default=[],
        metavar="NETWORK",
        help="show it images made against this network, too: a run's, or a file of one; may be given several times",
    )
    parser.add_argument(
        "--save-images",
        type=Path,
        metavar="FILE",
        help="write each image's nearest adversarial image, label, place and verdict to FILE.npz, for numpy to read",
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the record (default: evaluations/NAME-IDENTITY)")
    parser.add_trust()
    own, above = parser.read(lengthened("evaluate", arguments), RecipeFlags)
    if own.save_images is not None and own.save_images.suffix != ".npz":
        raise HarpError(f"--save-images {own.save_images}: expected a name that ends in .npz")
    return own, above


def _saved(work: "Workspace", folder: Path, path: Path | None) -> list[str]:
    """A line about the adversarial images that `path` now holds; none where they were not asked for."""
    if path is None:
        return []
    from harp.evaluation import save_images
    from harp.pipeline.images import places

    settings = work.recipe.evaluation
    batches, index = (
        work.in_order(work.split.test, settings.batch_size),
        places(work.split.dataset.test, settings.images),
    )
    return [f"{save_images(path, folder, batches, work.threat, index):,} adversarial images: {path}"]


def _show(work: "Workspace", label: str, values: Mapping[str, Any]) -> None:
    """The table, and what is to be said of it."""
    from harp.evaluation.tables import accuracy_table

    title = f"accuracy in %, with 95 % intervals; {work.threat}"
    work.display.console.print(accuracy_table({label: values["measures"]}, title, {}, values["cascade"]))
    for line in (*(f"note: {note}" for note in work.split.notes), *sentences(values)):
        work.display.say(line)


def sentences(values: Mapping[str, Any]) -> Iterator[str]:
    """What speaks against the number, and what whoever looked into it may say."""
    for doubt in values["doubts"]:
        word = "beside the number" if doubt.get("met") else "acknowledged" if doubt["acknowledged"] else "doubt"
        yield f"{word}: {doubt['name']}: {doubt['sentence']}"
    if values["robust"] is None:
        from harp.evaluation import DOUBTS

        names = [doubt["name"] for doubt in values["doubts"] if not doubt["acknowledged"] and not doubt.get("met")]
        known = ",".join(name for name in names if name in DOUBTS)
        advice = f"; once looked into: --acknowledge {known}" if known else ""
        # A coarser search is nothing that looking into could settle.
        yield f"No robust accuracy is quoted while a doubt is open{advice}{'' if known else ': search in float32'}"
    if values["examined"] == 0:
        yield "not examined for false robustness (--doubts 0)"
    for note in values["notes"]:
        yield f"note: {note}"
