"""`harp push NETWORK OWNER/NAME`: a package and its card to the Hugging Face hub, or into a folder to look at first."""

from pathlib import Path

from harp.cli.flags import Parser
from harp.errors import HarpError


def push(arguments: list[str]) -> None:
    """Pushes, or with --folder writes what would be pushed; raises `HarpError` for what is no package."""
    parser = Parser(
        "push",
        usage="harp push NETWORK OWNER/NAME [--folder DIR] [--private] [--licence NAME] [--bench FILE]",
        description="A network's package and a card of what is on record of it, to the Hugging Face hub. "
        "huggingface_hub must be logged in.",
    )
    parser.add_argument("network", help="a run's folder that was exported, a package, or zoo:NAME")
    parser.add_argument("repository", metavar="OWNER/NAME", help="where to; made if it is not there")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write the files there and send nothing")
    parser.add_argument("--private", action="store_true", help="make the repository for your eyes alone")
    parser.add_argument("--licence", metavar="NAME", help="the hub's short name of a licence, such as apache-2.0")
    parser.add_argument("--base-model", metavar="OWNER/NAME", help="the hub's name of the network that was pruned")
    parser.add_argument("--bench", type=Path, metavar="FILE", help="what `harp bench NETWORK --out FILE` wrote")
    own = parser.parse_args(arguments)

    from harp.hub import About, push_to_hub, save_pretrained

    about = About(licence=own.licence, base_model=own.base_model, bench=own.bench)
    if own.folder is None:
        print(f"pushed: {push_to_hub(own.network, own.repository, private=own.private, **about)}")
        return
    if own.private:
        raise HarpError("--private is about a repository, and --folder makes none; expected one of them")
    folder = save_pretrained(own.network, own.folder, repository=own.repository, **about)
    print(f"written, and nothing sent: {folder}")
