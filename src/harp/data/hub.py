"""Data sets of the Hugging Face hub, fetched as the Parquet files they consist of."""

import re
from pathlib import Path

from harp.consent import remember
from harp.data.base import Dataset, located, unknown
from harp.data.parquet import read_parquet
from harp.data.reading import AS_THEY_ARE, Reading
from harp.errors import HarpError
from harp.extras import need

PREFIX = "hub:"
_NAME = re.compile(r"hub:(?P<set>[\w.-]+/[\w.-]+)(?:/(?P<folder>[\w.-]+))?(?:@(?P<revision>\S+))?")


def hub(name: str, cache: Path | None, reading: Reading = AS_THEY_ARE) -> Dataset:
    """The image classification set `hub:owner/name[/folder][@revision]` of the Hugging Face hub.

    `folder` picks one of several configurations (`hub:ufldl-stanford/svhn/cropped_digits`); `revision` is a
    branch, tag or commit, and only a commit is sure to stay what it is. Downloads are kept in `cache`, by
    default where huggingface_hub keeps them. Only Parquet files are fetched and nothing of the set is run.
    Never mirrored, padded by an eighth of the side. Raises `HarpError` for a name of another form, a failed
    download, and as `read_parquet` does.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise HarpError(
            f"no data set {name!r}; expected hub:owner/name, hub:owner/name/folder or either with @revision"
        )
    remember([name])
    root = _download(match["set"], match["folder"], match["revision"], cache)
    with located(name):
        return unknown(name, *read_parquet(root / match["folder"] if match["folder"] else root, reading))


def _download(repository: str, folder: str | None, revision: str | None, cache: Path | None) -> Path:
    library = need("huggingface_hub", "hub")
    pattern = f"{folder}/*.parquet" if folder else "*.parquet"
    try:
        fetched = library.snapshot_download(
            repository, repo_type="dataset", revision=revision, cache_dir=cache, allow_patterns=[pattern]
        )
    # No network, no such set, no permission, a full disk: errors of the library, its HTTP client, the system.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise HarpError(f"the data set {repository!r} could not be fetched from the hub: {reason}") from error
    return Path(fetched)
