"""`harp evaluate` for any network: one record, a table, and a number to quote only where nothing speaks against it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harp.cli.flags import Parser
from harp.cli.recipes import NETWORK, RecipeFlags, lengthened, network_values
from harp.config import identity, make_recipe, measured
from harp.errors import HarpError

UNTRAINED = "random"
HEADLINE = {"evaluation": {"attacks": ["standard"]}}


def evaluate_network(arguments: list[str]) -> None:
    """Evaluates one network and prints what came out; raises `HarpError` for what cannot be found, built or met."""
    parser = Parser(
        "evaluate",
        usage="harp evaluate NETWORK [--weights FILE] [--folder DIR] [--SECTION.NAME VALUE ...]",
        description="Robust accuracy of one network, by AutoAttack as its authors run it unless --attacks says "
        "otherwise. In this command --evaluation.NAME may be written --NAME.",
        first=(*NETWORK, "evaluation."),
    )
    parser.add_argument("network", help="a run's folder, a safetensors file, or a model as in --model.name")
    parser.add_argument(
        "--weights", metavar="FILE", help="safetensors state dictionary of the model, or `random` for untrained weights"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the record (default: evaluations/NAME-IDENTITY)")
    parser.add_trust()
    own, above = parser.read(lengthened("evaluate", arguments), RecipeFlags)

    from harp.networks.assess import assess_run, check
    from harp.networks.named import find_network, loaded, untrained
    from harp.networks.terminal import accuracy_table
    from harp.networks.trust import check_named
    from harp.pipeline import Workspace

    drawn = own.weights == UNTRAINED
    network = find_network(own.network, Path(own.weights) if own.weights and not drawn else None)
    recipe = make_recipe(network_values(own.network, network.settings, HEADLINE, above))
    check_named(recipe, network.told_by, above, own.trust)
    if network.images is not None and "name" not in above.get("data", {}):
        raise HarpError(
            f"{own.network} says that its images are {network.images}, which is not fetched or run at a file's word; "
            f"--data.name {network.images} asks for them"
        )
    folder = own.folder or Path("evaluations") / f"{network.label}-{identity(measured(recipe))}"
    work = Workspace(recipe, folder)
    check(recipe.evaluation, work.threat.norm)
    model = loaded(work, network.weights)
    if network.weights is None and not drawn and untrained(work):
        raise HarpError(
            f"{own.network} comes without weights, and its seed would draw them: name a file by --weights FILE, or say "
            f"--weights {UNTRAINED} to measure it untrained"
        )
    work.run.claim()
    try:
        outcome = assess_run(work, model, folder, network.label)
    finally:
        work.run.release()
    values = outcome.values()
    title = f"accuracy in %, with 95 % intervals; {work.threat}"
    work.display.console.print(accuracy_table({network.label: values["measures"]}, title, {}, values["cascade"]))
    for note in work.split.notes:
        work.display.say(f"note: {note}")
    for line in sentences(values):
        work.display.say(line)
    work.display.say(f"record: {folder}")


def sentences(values: Mapping[str, Any]) -> Iterator[str]:
    """What speaks against the number, and what whoever looked into it may say."""
    for doubt in values["doubts"]:
        yield f"{'acknowledged' if doubt['acknowledged'] else 'doubt'}: {doubt['name']}: {doubt['sentence']}"
    if values["robust"] is None:
        from harp.evaluation import DOUBTS

        names = [doubt["name"] for doubt in values["doubts"] if not doubt["acknowledged"]]
        known = ",".join(name for name in names if name in DOUBTS)
        advice = f"; once looked into: --acknowledge {known}" if known else ""
        # A coarser search is nothing that looking into could settle.
        yield f"No robust accuracy is quoted while a doubt is open{advice}{'' if known else ': search in float32'}"
    if values["examined"] == 0:
        yield "not examined for false robustness (--doubts 0)"
    for note in values["notes"]:
        yield f"note: {note}"
