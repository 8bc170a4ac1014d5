"""Networks saved for the hub, sent there, and fetched."""

import re
import tempfile
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from harp.ambient import pinned
from harp.config import EXPORT
from harp.consent import remember
from harp.errors import HarpError
from harp.export import Deployed, is_package, load
from harp.extras import need
from harp.files import write_atomic
from harp.hub.card import FILE, About, card
from harp.package import read
from harp.zoo import PREFIX, find

_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
CARD = "README.md"


@pinned()
def from_pretrained(
    source: str | PathLike[str], *, revision: str | None = None, cache: Path | str | None = None
) -> Deployed:
    """The network in a folder, or in the hub's repository `owner/name`: logits [n, classes] of images [n, c, h, w].

    One file, package.safetensors, is fetched (at `revision`, a branch, tag or commit) and read; no code of the
    repository's is run, and none is fetched. Downloads are kept in `cache`, by default where huggingface_hub keeps
    them. `.module` is the same network with gradients. Raises `HarpError` for a folder or repository without a
    package, for a file that is damaged, and for a download that fails.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / FILE).is_file():
            raise HarpError(f"{folder} holds no {FILE}; harp.save_pretrained writes one")
        return load(folder / FILE)
    name = _repository(str(source))
    library = need("huggingface_hub", "hub", f"network {name!r}")
    remember([f"network {name}"])
    try:
        path = library.hf_hub_download(name, FILE, revision=revision, cache_dir=cache)
    except Exception as error:  # no network, no such repository, no permission, a full disk
        raise HarpError(f"{FILE} of {name!r} could not be fetched from the hub: {_reason(error)}") from error
    return load(path)


def save_pretrained(
    network: str | PathLike[str], folder: str | PathLike[str], *, repository: str = "owner/name", **about: Unpack[About]
) -> Path:
    """The folder, which holds the network's package and a card that tells what is on record of it.

    `network` is a package, the folder of a run that was exported, or `zoo:NAME`; the card names `repository` as where
    it is to be loaded from, and `about` is what no record holds. Files of these names in the folder are replaced.
    Raises `HarpError` for what is no package.
    """
    source, folder = _package(str(network)), Path(folder)
    text = card(read(source), source.stat().st_size, repository, about)
    write_atomic(folder / FILE, source.read_bytes())
    write_atomic(folder / CARD, text.encode())
    return folder


def push_to_hub(network: str | PathLike[str], repository: str, *, private: bool = False, **about: Unpack[About]) -> str:
    """The address of the commit by which the hub's repository `owner/name` got the network and its card.

    A repository that is not there is made. Whose it is and may be is what huggingface_hub is logged in as. `network`
    and `about` are as in `save_pretrained`. Raises `HarpError` for a name of another form, and where the hub refuses.
    """
    name = _repository(repository)
    library = need("huggingface_hub", "hub", f"pushing to {name!r}")
    with tempfile.TemporaryDirectory() as place:
        folder = save_pretrained(network, place, repository=name, **about)
        try:
            hub = library.HfApi()
            hub.create_repo(name, private=private, exist_ok=True)
            commit: Any = hub.upload_folder(
                repo_id=name, folder_path=folder, allow_patterns=[FILE, CARD], commit_message="A network and its card"
            )
        except Exception as error:  # no login, no network, no permission
            raise HarpError(f"the hub did not take {name!r}: {_reason(error)}") from error
    return str(commit.commit_url)


def _package(network: str) -> Path:
    if network.startswith(PREFIX):
        return find(network.removeprefix(PREFIX)).path
    path = Path(network)
    if path.is_dir():
        inside = [path / EXPORT / FILE, path / FILE]
        path = next((file for file in inside if file.is_file()), inside[0])
    if not is_package(path):
        raise HarpError(f"{path} is no package; `harp export` makes one of a run or any network")
    return path


def _repository(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise HarpError(f"there is no folder {name!r}, and as a repository of the hub it would be called owner/name")
    return name


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
