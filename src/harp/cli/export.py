"""`harp export NETWORK`: any network as a package, and as questions for verifiers."""

from pathlib import Path

from harp.cli.flags import Parser, check_count
from harp.cli.recipes import NETWORK, RecipeFlags, lengthened, network_values
from harp.config import make_recipe
from harp.errors import HarpError


def export_network(arguments: list[str]) -> None:
    """Packs one network; raises `HarpError` for what cannot be found, built or packed."""
    parser = Parser(
        "export",
        usage="harp export NETWORK [--weights FILE] [--out FILE] [--vnnlib N] [--SECTION.NAME VALUE ...]",
        description="One network as a package: shrunk to what has an effect on its logits, and checked against it. "
        "In this command --export.NAME may be written --NAME.",
        first=(*NETWORK, "export."),
    )
    parser.add_argument("network", help="a run's folder, a safetensors file, or a model as in --model.name")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="safetensors state dictionary of the model")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the package (default: NAME.package.safetensors)")
    parser.add_argument("--collapsed", action="store_true", help="pack a network that answers every image alike, too")
    parser.add_argument(
        "--vnnlib",
        type=int,
        metavar="N",
        help="ask complete verifiers about the first N test images, too: ONNX, VNN-LIB and instances.csv in a folder "
        "beside the package",
    )
    parser.add_trust()
    own, above = parser.read(lengthened("export", arguments), RecipeFlags)
    if own.vnnlib is not None:
        check_count("--vnnlib", own.vnnlib, 10**6)

    from harp.export import check_folder, check_threat, is_package
    from harp.networks.named import find_network, loaded, run_of
    from harp.networks.packing import Origin, onnx_file, origin, pack_network, sentences, vnnlib_files
    from harp.networks.trust import check_named
    from harp.pipeline import Workspace
    from harp.pipeline.kept import settings_in

    network = find_network(own.network, own.weights)
    if network.weights and is_package(network.weights):
        raise HarpError(f"{own.network} is a package already; expected the network it was made from")
    run = run_of(network.weights) if network.weights else None
    # A run's own evaluation settings say which images are on record.
    whole = settings_in(run / "recipe.yaml") if run else network.settings
    recipe = make_recipe(network_values(own.network, whole, above))
    check_named(recipe, network.told_by, above, own.trust)
    work = Workspace(recipe)
    model, path = loaded(work, network.weights), own.out or Path(f"{network.label}.package.safetensors")
    questions = path.with_suffix(".vnnlib")
    if own.vnnlib is not None:
        check_threat(work.threat)
        check_folder(questions)
    if run and network.weights:
        found = origin(run, network.weights, work.stages)
    else:
        found = Origin(network.weights, threat="threat" in above)
    for line in sentences(path, pack_network(work, model, path, found, own.collapsed)):
        work.display.say(line)
    if work.recipe.export.onnx:
        made = onnx_file(work, model, path.with_suffix(".onnx"))
        work.display.say(f"onnx: {path.with_suffix('.onnx')}, {made['bytes']:,} bytes, off by {made['difference']:.0e}")
    if own.vnnlib is not None:
        told = vnnlib_files(work, path, own.vnnlib, questions)
        left = f"; {len(told.left_out)} are left out, which it answers wrongly" if told.left_out else ""
        work.display.say(f"vnnlib: {questions}, properties of {len(told.asked)} of {own.vnnlib} images{left}")
