"""Checkpoints of other people's scripts, made by hand, under our names; and what is refused, in one sentence."""

import os
import pickle
import zipfile
from copy import copy

import pytest
import safetensors.torch
import torch

from harp.errors import HarpError
from harp.networks.foreign import read_foreign
from tests.networks.foreign import prefixed, same


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {"net": {"state_dict": state}},
        lambda state: {"model_state_dict": prefixed("module._orig_mod.", state)},
        lambda state: prefixed("_orig_mod.module.", state),
        lambda state: {**prefixed("module.", state), "n_averaged": torch.tensor(4)},
        lambda state: prefixed("backbone.", state),
        lambda state: {
            name.replace("shortcut", "downsample").replace("linear", "fc"): value for name, value in state.items()
        },
    ],
)
def test_wrapped_nested_and_renamed_states_are_the_same(model, theirs, file, wrap):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.save(wrap(theirs), file)
    found = read_foreign(file, model)
    assert same(found.state, theirs)
    assert found.masks is None
    assert found.network is model
    assert same(model.state_dict(), before)


@pytest.mark.parametrize("old", [False, True])
def test_batches_that_were_not_counted_begin_at_zero(model, theirs, file, old):
    del theirs["bn1.num_batches_tracked"]
    torch.save(theirs, file, _use_new_zipfile_serialization=not old)
    found = read_foreign(file, model)
    assert found.state["bn1.num_batches_tracked"].item() == 0
    assert found.notes == ("1 num_batches_tracked are not in the file and begin at 0",)


def test_half_precision_becomes_the_networks_own(model, theirs, tmp_path):
    path = tmp_path / "half.safetensors"
    safetensors.torch.save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in theirs.items()}, path
    )
    found = read_foreign(path, model)
    assert found.state["linear.weight"].dtype is torch.float32
    assert torch.equal(found.state["linear.weight"], theirs["linear.weight"].half().float())


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("raw", [False, True])
def test_a_file_that_asks_for_code_is_refused_and_nothing_runs(model, tmp_path, file, raw):
    target = tmp_path / "ran"
    if raw:
        file.write_bytes(pickle.dumps({"state_dict": Evil(target)}, protocol=2))
    else:
        torch.save({"state_dict": Evil(target)}, file)
    with pytest.raises(HarpError, match=r"never run|no file of tensors"):
        read_foreign(file, model)
    assert not target.exists()
    if not raw:
        with pytest.raises(HarpError, match=r"asks for \w+\.mkdir"):
            read_foreign(file, model)


@pytest.mark.parametrize(
    "data", [b"", b"hello there", b"\x80\x02}q\x00.", b"PK\x03\x04nothing", b"\x09\0\0\0\0\0\0\0{}"]
)
def test_what_is_no_checkpoint_is_refused(model, file, data):
    file.write_bytes(data)
    with pytest.raises(HarpError, match=str(file)):
        read_foreign(file, model)


def rewritten(file, change):
    """The archive again, record by record: `change` takes the archive, a record's name and its bytes, and writes it."""
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in records.items():
            change(archive, name, data)


def packed(archive, name, data):
    archive.writestr(name, data, zipfile.ZIP_DEFLATED)


def annotated(archive, name, data):
    archive.writestr(name, data)
    archive.comment = b"a second list of records"


def test_an_archive_stored_again_is_the_same(model, theirs, file):
    torch.save(theirs, file)
    rewritten(file, lambda archive, name, data: archive.writestr(name, data))
    assert same(read_foreign(file, model).state, theirs)


@pytest.mark.parametrize("change", [packed, annotated])
def test_an_archive_that_torch_never_writes_is_refused_before_it_is_inflated(model, theirs, file, change):
    torch.save(theirs, file)
    rewritten(file, change)
    with pytest.raises(HarpError, match="compressed, hidden or larger"):
        read_foreign(file, model)


def test_an_archive_behind_something_else_is_refused(model, theirs, file):
    torch.save(theirs, file)
    file.write_bytes(b"something else" + file.read_bytes())
    with pytest.raises(HarpError, match="compressed, hidden or larger"):
        read_foreign(file, model)


def test_records_that_share_their_bytes_are_refused(model, theirs, file):
    torch.save(theirs, file)
    with zipfile.ZipFile(file, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for number in range(4):
            archive.filelist.append(copy(largest))
            archive.filelist[-1].filename = f"more/{number}"
        archive.writestr("last", b"")  # and with it the list of them all
    with pytest.raises(HarpError, match="compressed, hidden or larger"):
        read_foreign(file, model)


def test_a_tensor_that_repeats_one_number_for_ever_is_refused(model, file):
    torch.save({"linear.weight": torch.zeros(1).expand(2**40)}, file)
    with pytest.raises(HarpError, match=r"tensors of 4,398,046,511,104 bytes"):
        read_foreign(file, model)


def test_a_missing_file_is_told(model, file):
    with pytest.raises(HarpError, match="no file"):
        read_foreign(file, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"linear.bias": torch.zeros(5)},
            r"is \[5\] there, and linear\.bias is \[4\] here \(1 of 8 shapes",
        ),
        ({"linear.bias": torch.tensor([0, float("nan"), 0, 0])}, "linear.bias holds NaN"),
        ({"linear.bias": torch.zeros(4, dtype=torch.int64)}, "linear.bias holds torch.int64"),
        ({"linear.more": torch.zeros(4)}, "holds linear.more, and the nearest"),
        ({"linear.bias": 3}, "holds linear.bias, which is no plain tensor"),
        ({"linear.popup_scores": torch.zeros(4, 2)}, "keep says it"),
        ({"state_dict": {}, "model": {}}, "several networks, state_dict, model"),
        ({"state_dict": {}}, "expected a state dictionary"),
        ({"other.num_batches_tracked": torch.tensor(1)}, "holds other.num_batches_tracked, and the nearest"),
    ],
)
def test_what_does_not_fit_is_refused(model, theirs, file, change, message):
    torch.save({**theirs, **change}, file)
    with pytest.raises(HarpError, match=message):
        read_foreign(file, model)
