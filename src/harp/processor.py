"""What the processor is and what it has, of all that decides which number formats and builds are quick on it."""

import platform
import sys
from functools import cache

INFO = "/proc/cpuinfo"

# By the words of Linux's /proc/cpuinfo: a feature is there where all words of one of its sets are.
_X86 = {
    "AVX2": ("avx2 fma f16c bmi1 bmi2 movbe abm",),
    "AVX-512": ("avx512f avx512bw avx512cd avx512dq avx512vl",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "amx_bf16"),
    "FP16": ("avx512_fp16", "amx_fp16"),
    "AMX": ("amx_tile",),
}
_ARM = {
    "NEON": ("asimd",),
    "dot products": ("asimddp",),
    "I8MM": ("i8mm",),
    "BF16": ("bf16",),
    "FP16": ("asimdhp",),
    "SVE": ("sve",),
}
ARM = ("aarch64", "arm64")


@cache
def features() -> dict[str, bool]:
    """Which of a closed list of features of this kind of processor are there; none is where the system does not say.

    On x86-64 AVX2 and AVX-512 (each with what compilers mean by x86-64-v3 and -v4), VNNI (products of bytes), BF16,
    FP16 and AMX; on aarch64 NEON, dot products, I8MM, BF16, FP16 and SVE.
    """
    words = _words()
    known = _ARM if platform.machine() in ARM else _X86
    return {name: any(words.issuperset(one.split()) for one in sets) for name, sets in known.items()}


def name() -> str:
    """The processor as its maker calls it, or its kind."""
    found = _told("model name")
    if not found and sys.platform == "darwin":
        found = _sysctl("machdep.cpu.brand_string")
    return found or platform.processor() or platform.machine()


def sentence() -> str:
    """`AMD EPYC: AVX2; no AVX-512, VNNI, BF16, FP16, AMX`."""
    found = features()
    there, missing = ([key for key, have in found.items() if have is wanted] for wanted in (True, False))
    return f"{name()}: {', '.join(there) or 'nothing'}{'; no ' if missing else ''}{', '.join(missing)}"


def _words() -> set[str]:
    if sys.platform == "darwin":
        return {"asimd", "asimddp", "asimdhp"} if platform.machine() in ARM else set[str]()
    return set(_told("flags", "Features").split())


def _told(*keys: str) -> str:
    """What the system says of the first processor; of the others it would take long where there are hundreds."""
    try:
        with open(INFO) as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in keys:
                    return value.strip()
    except OSError:
        pass
    return ""


def _sysctl(key: str) -> str:
    import subprocess

    done = subprocess.run(["sysctl", "-n", key], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
