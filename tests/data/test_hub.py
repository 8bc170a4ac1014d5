import sys

import huggingface_hub
import pytest

from harp.data import load
from harp.errors import HarpError

from .samples import parquet_set


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """What snapshot_download was called with; it answers with a local folder that has one set in `data`."""
    calls = []
    parquet_set(tmp_path / "data")

    def snapshot_download(repository, **options):
        calls.append((repository, options))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return calls


def test_only_parquet_files_are_fetched(hub):
    data = load("hub:some-one/colours")
    assert (data.name, data.classes, len(data.train)) == ("hub:some-one/colours", ("red", "blue"), 3)
    ((repository, options),) = hub
    assert (repository, options["repo_type"], options["allow_patterns"]) == (
        "some-one/colours",
        "dataset",
        ["*.parquet"],
    )
    assert (options["revision"], options["cache_dir"]) == (None, None)


def test_folder_revision_and_cache_are_passed_on(hub, tmp_path):
    assert len(load("hub:some-one/colours/data@1f2e", tmp_path / "cache").test) == 1
    ((repository, options),) = hub
    assert (repository, options["revision"], options["allow_patterns"]) == (
        "some-one/colours",
        "1f2e",
        ["data/*.parquet"],
    )
    assert options["cache_dir"] == tmp_path / "cache"


def test_a_failed_download_is_told(monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to the hub\nand a long story")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(HarpError, match=r"'a/b' could not be fetched from the hub: no route to the hub$"):
        load("hub:a/b")


@pytest.mark.parametrize("name", ["hub:", "hub:cifar10", "hub:a/b/c/d", "hub:../../etc/x", "hub:a/b@"])
def test_other_names_are_refused(hub, name):
    with pytest.raises(HarpError, match="expected hub:owner/name"):
        load(name)
    assert hub == []


def test_without_the_library_the_command_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(HarpError, match=r"needs huggingface_hub; .*'harp-pruning\[hub\]'"):
        load("hub:a/b")
