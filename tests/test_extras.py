import sys

import pytest

from harp.errors import HarpError
from harp.extras import need


def test_a_library_that_is_there_is_given():
    assert need("json", "images") is sys.modules["json"]


def test_a_missing_library_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        HarpError, match=r"^this data set needs pyarrow; install it with pip install 'harp-pruning\[images\]'$"
    ):
        need("pyarrow", "images")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('operator torchvision::nms does not exist')", "RuntimeError: operator torchvision::nms"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
    ],
)
def test_a_library_that_fails_on_import_says_why(monkeypatch, tmp_path, text, reason):
    (tmp_path / "broken_library.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(HarpError, match=f"model 'x' needs broken_library, which is installed but fails .*{reason}"):
        need("broken_library", "timm", "model 'x'")
