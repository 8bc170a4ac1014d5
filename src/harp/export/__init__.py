"""The pruned model as a file."""

from harp.export.agreement import Agreement, Answer, agree, steady
from harp.export.bake import bake
from harp.export.deployed import Deployed, is_package, load
from harp.export.fold import fold
from harp.export.onnx import onnx_session, to_onnx
from harp.export.pack import Packed, SlowWarning, one_by_one, pack
from harp.export.rebuilt import Rebuilt
from harp.export.shrink import Shrunk, shrink
from harp.export.timing import latency, timed
from harp.export.verify import Check, Source, verify
from harp.export.vnnlib import Questions, check_folder, check_threat, to_vnnlib

__all__ = [
    "Agreement",
    "Answer",
    "Check",
    "Deployed",
    "Packed",
    "Questions",
    "Rebuilt",
    "Shrunk",
    "SlowWarning",
    "Source",
    "agree",
    "bake",
    "check_folder",
    "check_threat",
    "fold",
    "is_package",
    "latency",
    "load",
    "one_by_one",
    "onnx_session",
    "pack",
    "shrink",
    "steady",
    "timed",
    "to_onnx",
    "to_vnnlib",
    "verify",
]
