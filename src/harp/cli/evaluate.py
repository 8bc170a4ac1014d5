"""`harp evaluate` for any network: one record, a table, and a number to quote only where nothing speaks against it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harp.cli.flags import Parser
from harp.cli.recipes import RecipeFlags, lengthened, network_values
from harp.config import identity, make_recipe

HEADLINE = {"evaluation": {"attacks": ["standard"]}}


def names_network(arguments: list[str]) -> bool:
    """Whether the command's first word is a network; else it is a recipe, and its run's networks are meant."""
    if not arguments or arguments[0].startswith("-"):
        return False
    # Imported late, as for all commands: torch takes a second.
    from harp.pipeline.networks import is_network

    return is_network(arguments[0])


def evaluate_network(arguments: list[str]) -> None:
    """Evaluates one network and prints what came out; raises `HarpError` for what cannot be found, built or met."""
    parser = Parser(
        "evaluate",
        usage="harp evaluate NETWORK [--weights FILE] [--folder DIR] [--SECTION.NAME VALUE ...]",
        description="Robust accuracy of one network, by AutoAttack as its authors run it unless --attacks says "
        "otherwise. In this command --evaluation.NAME may be written --NAME.",
    )
    parser.add_argument("network", help="a run's folder, a safetensors file, or a model as in --model.name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors state dictionary of the model")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="the record (default: evaluations/NAME-IDENTITY)")
    own, above = parser.read(lengthened("evaluate", arguments), RecipeFlags)

    from harp.pipeline import Workspace
    from harp.pipeline.assess import assess_run, check
    from harp.pipeline.networks import find_network, loaded
    from harp.pipeline.tables import accuracy_table

    network = find_network(own.network, own.weights)
    recipe = make_recipe(network_values(own.network, network.settings, HEADLINE, above))
    folder = own.folder or Path("evaluations") / f"{network.label}-{identity(recipe)}"
    work = Workspace(recipe, folder)
    check(recipe.evaluation, work.threat.norm)
    model = loaded(work, network.weights)
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
        names = ",".join(doubt["name"] for doubt in values["doubts"] if not doubt["acknowledged"])
        yield f"No robust accuracy is quoted while a doubt is open; once looked into: --acknowledge {names}"
    for note in values["notes"]:
        yield f"note: {note}"
