import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harp.data.safe_pickle import read_pickle
from harp.errors import HarpError

from .samples import dump

BYTES = np.arange(6, dtype=np.uint8).reshape(2, 3)


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
@pytest.mark.parametrize("array", [BYTES, np.asfortranarray(BYTES), BYTES[:, ::2]], ids=["C", "F", "strided"])
def test_arrays_and_plain_values_come_back(tmp_path, protocol, array):
    file = tmp_path / "batch"
    file.write_bytes(pickle.dumps({"data": array, "labels": [1, 2], "name": "x"}, protocol=protocol))
    found = read_pickle(file)
    assert np.array_equal(found["data"], array)
    assert (found["labels"], found["name"]) == ([1, 2], "x")


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_python_2_pickles_of_both_numpys_are_read(tmp_path, module):
    # What Python 2 wrote: the bytes are a str (opcode U), and no _codecs.encode is asked for.
    file = tmp_path / "batch"
    file.write_bytes(
        b"\x80\x02}U\x04datac" + module + b"\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89U\x02\xff\x07tbs."
    )
    assert read_pickle(file)["data"].tolist() == [[255, 7]]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_command_is_not_run(tmp_path, protocol):
    target = tmp_path / "executed"
    file = tmp_path / "batch"
    file.write_bytes(pickle.dumps({"data": Malicious(target)}, protocol=protocol))
    with pytest.raises(HarpError, match=r"batch asks for (posix|nt)\.system; expected plain values"):
        read_pickle(file)
    assert not target.exists()


@pytest.mark.parametrize(
    "value",
    [
        {"data": OrderedDict(a=1)},
        {"data": np.array([object()])},
        {"data": np.array([1.0])},
        {"data": np.array([1], dtype=">i8")},
        {"data": np.array([(1, 2)], dtype=[("a", "u1"), ("b", "u1")])},
        {"data": np.float32(1)},
        {"data": len},
    ],
)
def test_other_objects_and_dtypes_are_refused(tmp_path, value):
    with pytest.raises(HarpError, match=r"batch (asks for|is not)"):
        read_pickle(dump(tmp_path / "batch", value))


def test_a_forged_shape_is_refused(tmp_path):
    file = dump(tmp_path / "batch", {"data": BYTES})
    file.write_bytes(file.read_bytes().replace(b"K\x02K\x03\x86", b"K\x02K\xff\x86"))
    with pytest.raises(HarpError, match="is not a whole pickle"):
        read_pickle(file)


def test_only_a_dictionary_will_do(tmp_path):
    with pytest.raises(HarpError, match="holds a list; expected a dictionary"):
        read_pickle(dump(tmp_path / "batch", [1]))
    with pytest.raises(HarpError, match="no file"):
        read_pickle(tmp_path / "missing")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_pickle_is_named(tmp_path, data):
    whole = pickle.dumps({"data": BYTES, "labels": [1, 2]}, protocol=2)
    file = tmp_path / "batch"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(HarpError, match="batch is not a whole pickle"):
        read_pickle(file)
