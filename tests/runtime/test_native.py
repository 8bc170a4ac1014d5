import ctypes
import platform
from dataclasses import replace

import pytest
import torch

from harp import processor
from harp.errors import HarpError
from harp.runtime import compile, convolutions, native
from harp.runtime.tiling import best
from tests.runtime.graphs import BUILT, one

built = pytest.mark.skipif(not BUILT, reason="no compiler here")


@built
def test_a_build_knows_its_name():
    assert [native.Native(native.built()[variant]).variant for variant in BUILT] == list(BUILT)


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"AVX2": True, "AVX-512": True}, ("avx512", "avx2", "base")),
        ({"AVX2": True, "AVX-512": False}, ("avx2", "base")),
        ({"AVX2": False, "AVX-512": False}, ("base",)),
        ({"NEON": True}, ("base",)),
    ],
)
def test_the_quickest_build_that_a_processor_runs_comes_first(able, expected, monkeypatch):
    monkeypatch.setattr(processor, "features", lambda: able)
    assert native.variants() == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="PyTorch tells of x86-64 alone")
def test_the_processor_is_the_one_that_pytorch_sees():
    able = torch.backends.cpu.get_cpu_capability()
    assert native.variants()[0] == {"AVX512": "avx512", "AVX2": "avx2"}.get(able, "base")


@built
def test_the_layout_names_every_field_and_number():
    here = native.layout()
    assert here["Kind.CONV"] == "2"
    assert here["Act.GELU_TANH"] == "5"
    assert here["Step.in"] == "4"
    assert here["ShortEntry"] == "6"
    assert len([name for name in here if name.startswith("Step.")]) == len(native.Step._fields_)


@built
@pytest.mark.parametrize("variant", BUILT)
def test_a_build_whose_fields_lie_elsewhere_is_refused(variant: str, monkeypatch: pytest.MonkeyPatch):
    """Two fields of one type in the other order: the sizes are the same."""
    fields = list(native.Step._fields_)
    names = [field[0] for field in fields]
    i, j = names.index("tile"), names.index("tiles")
    fields[i], fields[j] = fields[j], fields[i]
    swapped = type("Step", (ctypes.Structure,), {"_fields_": tuple(fields)})
    assert ctypes.sizeof(swapped) == ctypes.sizeof(native.Step)
    monkeypatch.setitem(native._STRUCTURES, "Step", swapped)
    with pytest.raises(HarpError, match=r"another version of harp: Step\.tiles? is \d+ there and \d+ here"):
        native.Native(native.built()[variant])


@built
@pytest.mark.parametrize(("what", "name"), [("KINDS", "Kind.ADD"), ("ACTS", "Act.GELU")])
def test_a_build_whose_numbers_mean_something_else_is_refused(what: str, name: str, monkeypatch: pytest.MonkeyPatch):
    values = list(getattr(native, what))
    place = values.index(name.partition(".")[2].lower())
    values[place - 1], values[place] = values[place], values[place - 1]
    monkeypatch.setattr(native, what, tuple(values))
    with pytest.raises(HarpError, match=rf"another version of harp: {name} is {place} there and {place - 1} here"):
        native.Native(native.built()[BUILT[0]])


def test_what_is_no_build_is_refused(tmp_path):
    path = tmp_path / "_engine_base.so"
    path.write_bytes(b"no library")
    with pytest.raises(HarpError, match=r"_engine_base\.so is no build of this engine .*; install harp again"):
        native.Native(path)


@built
@pytest.mark.parametrize(
    "change",
    [
        *({"tile": 17, "tiles": 1}, {"lanes": 3}, {"width": 16, "tile": 5}, {"width": 4, "tile": 16}),
        *({"parts": 0}, {"width": 4, "tile": 1, "parts": 2}),
    ],
)
def test_a_plan_without_a_kernel_is_never_run(change: dict[str, int], monkeypatch: pytest.MonkeyPatch):
    def changed(*a, **k):
        tiling = best(*a, **k)
        assert tiling is not None
        return replace(tiling, **change)

    monkeypatch.setattr(convolutions, "best", changed)
    with pytest.raises(HarpError, match=r"has no kernel for step \d \(conv: .*; variant='torch' runs"):
        compile(one(torch.ones(1, 1, 3, 3), (1, 8, 8)))


@built
@pytest.mark.parametrize("variant", BUILT)
def test_tiles_of_a_block_have_a_kernel_or_are_refused(variant: str):
    """Of 5 columns there is none; of 4 rows and 4 filters none where there are 16 registers; else all would be gaps."""
    build = native.native(variant)
    step = native.Step(kind=native.KINDS.index("conv"), width=1, rows=1, columns=1)
    program = native.Program(None, ctypes.addressof(step), 1, build.lanes)
    build.check(program)
    for width, rows, columns in ((1, 1, 5), (1, 5, 1), (1, 0, 1), (2, 1, 1), (4, 4, 4)):
        step.width, step.rows, step.columns = width, rows, columns
        with pytest.raises(HarpError, match="no kernel for step 0"):
            build.check(program)
    step.width, step.rows, step.columns, step.kind = 1, 1, 1, 99
    with pytest.raises(HarpError, match=r"no kernel for step 0 \(99"):
        build.check(program)
