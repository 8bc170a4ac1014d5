"""PyTorch's ambient settings, pinned to what harp's numbers depend on for a while, and put back."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from harp.errors import HarpError


@contextmanager
def pinned() -> Iterator[None]:
    """Gradients on; inference mode, autocast and cached parametrisations off; new tensors float32 on the CPU.

    All of it is put back afterwards, also after an exception. What only changes speed or rounding stays the caller's:
    how exactly float32 is computed, deterministic algorithms, threads, anomaly mode. The default dtype is the whole
    process's, the rest this thread's. `pinned()` is a decorator, too.

    Raises `HarpError` inside `torch.func` transforms and under modes whose tensors hold no numbers (FakeTensorMode);
    what PyTorch says of tensors made in inference mode, mixed number types and devices, tensors on `meta`, and
    operations without a deterministic form comes out as one sentence.
    """
    with ExitStack() as stack:
        stack.enter_context(_told())
        stack.enter_context(plain())
        _refuse_transforms()
        grad = torch.is_grad_enabled()
        stack.callback(torch.set_grad_enabled, grad)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        torch.set_grad_enabled(True)
        stack.enter_context(_uncached())
        yield


@contextmanager
def precise() -> Iterator[None]:
    """`pinned`, and float32 is computed as float32 (no TF32, no bfloat16), without anomaly mode: for what is measured.

    Broken networks have gradients that are NaN, which is a finding, and anomaly mode would end in an exception.
    """
    with pinned(), torch.autograd.set_detect_anomaly(False), full_float32():
        yield


@contextmanager
def plain() -> Iterator[None]:
    """Autocast off, new tensors float32 on the CPU; whether gradients are recorded stays as it is."""
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with _no_autocast(), ExitStack() as stack:
            # On top of whatever set another device: a context of a caller's cannot be left for a while.
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            yield
    finally:
        torch.set_default_dtype(dtype)


def ordinary() -> AbstractContextManager[None]:
    """`plain` with float32 in full, or nothing where all is so already: for calls that take microseconds."""
    get: Callable[..., str] | None = getattr(torch._C, "_get_fp32_precision_getter", None)
    if get is None:
        full = torch.get_float32_matmul_precision() == "highest"
    else:
        full = all(get("mkldnn", of) in ("none", "ieee") for of in ("matmul", "conv", "rnn"))
    as_ever = torch.get_default_dtype() == torch.float32 and not torch._C._len_torch_function_stack()
    return nullcontext() if full and as_ever and not torch._C._is_any_autocast_enabled() else _plain_and_full()


@contextmanager
def _plain_and_full() -> Iterator[None]:
    with plain(), full_float32():
        yield


@contextmanager
def deterministic() -> Iterator[None]:
    """Deterministic algorithms where there are any, warnings where there are none; afterwards as before."""
    settings: Any = torch.utils.deterministic
    before = torch.get_deterministic_debug_mode(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory with NaN would cost time and change nothing.
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        settings.fill_uninitialized_memory = before[1]


def usable(tensor: Tensor) -> Tensor:
    """`tensor`, or a copy of one made in inference mode, which autograd would refuse for good."""
    return tensor.clone() if tensor.is_inference() else tensor


_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "xla")


@contextmanager
def _no_autocast() -> Iterator[None]:
    """No autocast on any device, and no region open: regions entered inside drop their cast weights when they end."""
    on = [device for device in _DEVICES if torch.is_autocast_enabled(device)]
    depth = torch.autocast_increment_nesting() - 1
    for _ in range(depth + 1):
        torch.autocast_decrement_nesting()
    if depth:
        torch.clear_autocast_cache()
    for device in on:
        torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        for device in on:
            torch.set_autocast_enabled(device, True)
        for _ in range(depth):
            torch.autocast_increment_nesting()
        if depth:
            # Weights may have changed, and the caller's region would go on with its copies of the old ones.
            torch.clear_autocast_cache()


@contextmanager
def _uncached() -> Iterator[None]:
    """Outside of `parametrize.cached()`, which would go on using weights computed before a step."""
    before, kept = parametrize._cache_enabled, dict(parametrize._cache)
    if before:
        parametrize._cache_enabled = 0
        parametrize._cache.clear()
    try:
        yield
    finally:
        parametrize._cache_enabled = before
        # What was cached by then may be of weights that are no more.
        if kept:
            parametrize._cache.clear()


# Where torch from 2.9 on keeps how float32 is computed, parents first: "none" asks the parent, and at the top is full.
_PLACES = (
    *(("generic", "all"), ("cuda", "all"), ("mkldnn", "all")),
    *((library, of) for library in ("cuda", "mkldnn") for of in ("matmul", "conv", "rnn")),
)


@contextmanager
def full_float32() -> Iterator[None]:
    """Products and convolutions of float32 numbers in float32 on every device; afterwards as before."""
    if not hasattr(torch._C, "_get_fp32_precision_getter"):
        matmul, tf32 = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        own: dict[tuple[str, str], str] = {}
    else:
        # By the internals of both of PyTorch's interfaces: its public ones raise wherever somebody has used both.
        matmul, own = torch._C._get_float32_matmul_precision(), _cleared()
        tf32 = own.get(("cuda", "conv")) == "tf32"
    _put_precision("highest", False, dict.fromkeys(own, "none"))
    try:
        yield
    finally:
        _put_precision(matmul, tf32, own)


def _cleared() -> dict[tuple[str, str], str]:
    """What each place says itself, which is only seen once those above it say nothing."""
    own = {}
    for place in _PLACES:
        if (value := torch._C._get_fp32_precision_getter(*place)) != "none":
            own[place] = value
            torch._C._set_fp32_precision_setter(*place, "none")
    return own


def _put_precision(matmul: str, tf32: bool, places: Mapping[tuple[str, str], str]) -> None:
    torch._C._set_float32_matmul_precision(matmul)
    torch._C._set_cudnn_allow_tf32(tf32)
    for place, value in places.items():
        torch._C._set_fp32_precision_setter(*place, value)


def _refuse_transforms() -> None:
    if torch._C._functorch.maybe_current_level() is not None:
        raise HarpError(
            "harp was called inside a torch.func transform (vmap, grad, jvp), where images and weights are no plain "
            "tensors; call it outside of the transformed function"
        )
    made = torch.empty(0, device="cpu")
    if type(made) is not Tensor:
        raise HarpError(
            f"harp was called under a mode whose tensors are {type(made).__name__}s, which may hold no numbers; leave "
            "it first"
        )


_SENTENCES = {
    r"nference tensor": "a tensor made under torch.inference_mode() meets gradients, which PyTorch refuses; make "
    "network and images outside of it, or copy them there (copy.deepcopy(model), x.clone())",
    r"[Mm]eta tensor|meta device": "network or images are on the device `meta`, where tensors hold no numbers; load "
    "them onto a real one",
    r"should be the same|same dtype|expected scalar type|same device|same type": "numbers of two types, or on two "
    "devices, meet in the network; expected float32 on the device of its images (model.float()), or a network that "
    "casts images itself and makes no tensor of a default type or device",
    r"does not have a deterministic implementation": "an operation has no deterministic form, which "
    "torch.use_deterministic_algorithms(True) asks for; with warn_only=True PyTorch only warns",
}


@contextmanager
def _told() -> Iterator[None]:
    """PyTorch's known complaints of the ambient state as one sentence each."""
    try:
        yield
    except RuntimeError as error:
        line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        for pattern, sentence in _SENTENCES.items():
            if re.search(pattern, str(error)):
                raise HarpError(f"{sentence} (PyTorch: {line[:200]})") from error
        raise
