"""`harp import FILE`: a network made elsewhere as a state dictionary of ours, with its weights counted."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harp.cli.flags import Parser
from harp.cli.recipes import RecipeFlags
from harp.config import make_recipe
from harp.errors import HarpError

if TYPE_CHECKING:
    from rich.table import Table

    from harp.networks.foreign import Foreign
    from harp.sparsity import Masks, Sites

SHORT = {"--model": "--model.name", "--data": "--data.name"}
MASKS = "masks.safetensors"


def import_network(arguments: list[str]) -> None:
    """Writes the network and prints what is left of each weight; raises `HarpError` for what cannot be read or mapped.

    Beside the file lie the masks where the checkpoint tells them.
    """
    parser = Parser(
        "import",
        usage="harp import FILE --model NAME [--data NAME] [--keep SHARE] [--out FILE] [--SECTION.NAME VALUE ...]",
        description="A checkpoint of somebody else's training as weights of a network known here: safetensors, or "
        "torch.save's files, read without running what is in them. HARP's and HYDRA's own layout, "
        "torch.nn.utils.prune's and RobustBench's are known.",
        first=("data.name", "data.path", "model.name", "model.width"),
    )
    parser.add_argument("file", type=Path, help="the checkpoint")
    parser.add_argument(
        "--keep", type=float, metavar="SHARE", help="what HYDRA or HARP pruned to, 0.01 for 99 %%; 1: still dense"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: imported/NAME/model.safetensors")
    own, above = parser.read(_lengthened(arguments), RecipeFlags)
    if not above.get("model", {}).get("name"):
        raise HarpError("--model NAME must say whose weights the file holds; `harp list models` has some")

    from harp.models import load_weights
    from harp.networks.foreign import read_foreign
    from harp.pipeline import Workspace
    from harp.runs import save_tree
    from harp.sparsity import Masks

    work = Workspace(make_recipe({"device": "cpu", **above}))
    out = own.out or Path("imported") / own.file.stem / "model.safetensors"
    if out.suffix != ".safetensors":
        raise HarpError(f"--out {out}: expected a name that ends in .safetensors")
    found = read_foreign(own.file, work.model(), own.keep)
    load_weights(found.network, found.state, str(own.file))
    sites = work.sites(found.network)
    masks = None if found.masks is None else Masks({site.name: found.masks[site.name] for site in sites})
    beside = out.with_name(MASKS)
    if beside.exists() and (masks is None or not out.exists()):
        raise HarpError(f"{beside} holds the masks of another network; choose another --out")
    save_tree(out, dict(found.state))
    if masks is not None:
        save_tree(beside, dict(masks))
    work.display.console.print(_counted(sites, masks))
    for line in _sentences(out, found, masks, "mean" in above["model"]):
        work.display.say(line)


def _lengthened(arguments: Sequence[str]) -> list[str]:
    words = (word.partition("=") for word in arguments)
    return [f"{SHORT.get(flag, flag)}{equals}{value}" for flag, equals, value in words]


def _counted(sites: "Sites", masks: "Masks | None") -> "Table":
    """One row a weight: what its mask keeps, or, where there is none, what is not zero."""
    from harp.cli.tables import count_table, share_of

    table = count_table("weight", "shape", "kept" if masks else "not zero", "share", numbers=2)
    left = masks.counts if masks else {site.name: int(site.param.count_nonzero()) for site in sites}
    for site in sites:
        count = left[site.name]
        table.add_row(site.name, "x".join(map(str, site.param.shape)), f"{count:,}", share_of(count, site.size))
    kept, total = sum(left.values()), sum(site.size for site in sites)
    table.add_row(f"all {total:,}", "", f"{kept:,}", share_of(kept, total))
    return table


def _sentences(out: Path, found: "Foreign", masks: "Masks | None", told: bool) -> Iterator[str]:
    yield f"weights: {out}"
    yield f"masks: {out.with_name(MASKS)}" if masks else "no masks are in the file, so none are written"
    for note in found.notes:
        yield f"note: {note}"
    if found.statistics and not told:
        from numpy import float32

        mean, std = (",".join(str(float32(value)) for value in values) for values in found.statistics)
        yield f"note: wherever this file is used, say --model.mean {mean} --model.std {std}"
