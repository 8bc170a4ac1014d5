"""Where the Parquet or tar files of a data set in shards lie."""

import re
from pathlib import Path

from harp.errors import HarpError

# In order of preference: many sets on the hub have no labelled test part and call the held-out one otherwise.
TEST = ("test", "validation", "valid", "val")


def find_shards(root: Path, kind: str = "parquet") -> tuple[list[Path], dict[str, list[Path]]]:
    """The training files and, by its name, those of each part that may be the test part, the first choice first.

    They lie in `root` or its one subfolder with `train-*.parquet`, or with such names of another `kind`. Raises
    `HarpError` where there is no such folder or more than one, no test files, or a training shard is missing, as told
    by names like `train-00000-of-00003.parquet`; of the part that is chosen in the end ask `whole`.
    """
    folder = _folder(root, kind)
    train = whole(_part(folder, "train", kind))
    if tests := {name: files for name in TEST if (files := _part(folder, name, kind))}:
        return train, tests
    raise HarpError(f"{folder} holds train-*.{kind} but no test part; expected one of {', '.join(TEST)}-*.{kind}")


def has_shards(root: Path) -> bool:
    """Whether `find_shards` has anything to find in `root`."""
    return bool(_folders(root, "parquet"))


def _folder(root: Path, kind: str) -> Path:
    folders = _folders(root, kind)
    if not folders:
        raise HarpError(f"no train-*.{kind} in {root} or in a folder within it")
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise HarpError(f"{root} holds several sets: {names}; name one of these folders")
    return folders[0]


def _folders(root: Path, kind: str) -> list[Path]:
    if not root.is_dir():
        return []
    if _part(root, "train", kind):
        return [root]
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir() and _part(folder, "train", kind)]


def _part(folder: Path, name: str, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{name}-*.{kind}"))


def whole(files: list[Path]) -> list[Path]:
    """`files`, the shards of one part; raises `HarpError` where one that their names tell of is missing."""
    folder, name = files[0].parent, files[0].name.partition("-")[0]
    numbered = [re.search(r"-(\d+)-of-(\d+)", file.name) for file in files]
    found = {int(match[1]) for match in numbered if match}
    missing = {number for match in numbered if match for number in range(int(match[2]))} - found
    if missing:
        raise HarpError(f"{folder} lacks shard {min(missing)} of its {name}-*{files[0].suffix}; expected every one")
    return files
