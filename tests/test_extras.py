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
    ("text", "reason", "anew"),
    [
        (
            "raise RuntimeError('operator torchvision::nms does not exist')",
            "RuntimeError: operator torchvision::nms",
            "torchvision",
        ),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'", "broken_library"),
    ],
)
def test_a_library_that_fails_on_import_says_why_and_which_to_install_anew(monkeypatch, tmp_path, text, reason, anew):
    (tmp_path / "broken_library.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    said = f"model 'x' needs broken_library, which is installed but fails .*{reason}.*--force-reinstall torch {anew}$"
    with pytest.raises(HarpError, match=said):
        need("broken_library", "timm", "model 'x'")
