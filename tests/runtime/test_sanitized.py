"""Nothing is read or written outside of what was made, and no arithmetic is undefined; `make sanitize` does it all."""

from pathlib import Path

import pytest

from harp.runtime import variants
from tests.runtime import sanitized

# Large maps take long and do nothing that smaller ones do not; "torch" does not run the engine.
QUICK = ("-k", "not (torch or 300 or 224 or 112 or 56)")


@pytest.mark.slow
@pytest.mark.skipif(not sanitized.libraries(), reason="needs g++ with libasan and libubsan")
def test_the_engine_stays_in_its_memory(tmp_path: Path):
    sanitized.build("avx2" if "avx2" in variants() else "base", tmp_path)
    done = sanitized.run(tmp_path, *sanitized.TESTS, *QUICK)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert " passed" in done.stdout
