import logging
import sys
import warnings

import pytest

from harp.quiet import quiet


def test_nothing_is_heard_inside_and_all_is_as_before_after(capsys, caplog):
    with warnings.catch_warnings(record=True) as heard, quiet():
        print("told")
        print("told", file=sys.stderr)
        logging.getLogger("other").error("told")
        warnings.warn("told", stacklevel=1)
    assert not heard
    assert not caplog.records
    print("after")
    logging.getLogger("other").error("after")
    assert capsys.readouterr() == ("after\n", "")
    assert [record.message for record in caplog.records] == ["after"]


def test_an_error_comes_through():
    with pytest.raises(RuntimeError, match="told"), quiet():
        raise RuntimeError("told")
    assert logging.root.manager.disable == logging.NOTSET
