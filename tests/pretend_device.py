"""A device that is not there: tensors say that they lie on "pretend:0", and the CPU does the work.

A pretended tensor wraps a CPU tensor, and PyTorch itself takes it for one of the other device (PrivateUse1), so that
factories, autograd and composite operators go the way they would go there. Inside a `Pretend`:

* what meets a CPU tensor raises `MixedDevicesError`, with the exceptions that CUDA makes (0-dim numbers, CPU indices);
* random numbers of a generator of the CPU raise; so does float64, where the device shall have none (as MPS);
* `waits` counts what makes the host wait for the device, by (kind, place in the package); `calls` counts kernels.

    with Pretend(root=Path(rankdet.__file__).parent) as device:
        model.to(DEVICE)(...)
    print(device.waits)
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only


def _aten(names: str) -> set[str]:
    return {f"aten::{name}" for name in names.split()}


# The size, or a value, of the result must be known to the host.
WAITING = {"torchvision::nms"} | _aten(
    "_local_scalar_dense nonzero masked_select _unique _unique2 unique_dim unique_consecutive unique_dim_consecutive "
    "equal bincount histc linalg_solve_ex linalg_cholesky_ex"
)
INDEXING = _aten("index index_put index_put_ _index_put_impl_ _unsafe_index")
COPYING = _aten("_to_copy copy_ copy")
# These refuse even numbers (0-dim) of the CPU, which arithmetic takes.
PICKY = _aten(
    "stack cat index_select gather scatter scatter_ scatter_reduce index_copy index_copy_ index_add index_add_ "
    "index_fill index_fill_ searchsorted bucketize mm bmm addmm convolution embedding"
)
# No kernels.
FREE = _aten("detach alias lift_fresh empty empty_like new_empty empty_strided new_empty_strided _local_scalar_dense")

ALONE = "RANKDET_PRETEND"
"""Set in a process of its own: once the device is there, autograd has threads and no test can fork any more."""

AVAILABLE = ALONE in os.environ and hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend")
if AVAILABLE:
    torch.utils.backend_registration._setup_privateuseone_for_python_backend("pretend")
DEVICE = torch.device("pretend" if AVAILABLE else "meta", 0)
needs_pretence = pytest.mark.skipif(
    not AVAILABLE, reason="tests/test_pretended_device.py runs it, in a process of its own"
)


def brought_there(instance: Any) -> Any:
    """A dataclass with its tensors on the device."""
    found = {field.name: getattr(instance, field.name) for field in fields(instance)}
    return replace(instance, **{name: value.to(DEVICE) for name, value in found.items() if isinstance(value, Tensor)})


class MixedDevicesError(RuntimeError):
    """What the other device would refuse."""


class Elsewhere(Tensor):
    """A CPU tensor, `inner`, that passes for one of another device."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        at = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        self = Tensor._make_wrapper_subclass(cls, inner.size(), dtype=inner.dtype, device=DEVICE, **at)
        self.inner = inner
        return self

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner!r}, device='{self.device}')"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.ndim == 0 else repr(self)

    def tolist(self) -> Any:
        """PyTorch refuses it for subclasses."""
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        return self.detach().clone().requires_grad_(self.requires_grad)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if Pretend.current is None:
            raise RuntimeError(f"{func} of a pretended tensor outside of Pretend")
        return Pretend.current.__torch_dispatch__(func, types, args, kwargs)


class Pretend(TorchDispatchMode):
    """Makes the device appear; see the module. Autocast casts nothing there, and several devices there are not.

    Args:
        root: folder of the package whose places are counted.
        float64: whether the device has it.

    Counters, which may be cleared: `waits` by (kind, place), copies from and to the CPU among them; `calls`, kernels by
    operator; `places`, kernels by place; `wide`, elements written in float64 by place.
    """

    current: Pretend | None = None

    def __init__(self, *, root: Path, float64: bool = True) -> None:
        super().__init__()
        self.root = root
        self.float64 = float64
        self.waits: Counter[tuple[str, str]] = Counter()
        self.calls: Counter[str] = Counter()
        self.wide: Counter[str] = Counter()
        self.places: Counter[str] = Counter()

    def __enter__(self) -> Pretend:
        self._before = Pretend.current, torch._C._only_lift_cpu_tensors(), torch._C._is_multithreading_enabled()
        Pretend.current = self
        torch._C._set_only_lift_cpu_tensors(True)  # so that torch.tensor(list, device=...) is seen
        torch._C._set_multithreading_enabled(False)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        Pretend.current, lift, threads = self._before
        torch._C._set_only_lift_cpu_tensors(lift)
        torch._C._set_multithreading_enabled(threads)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        ours = any(isinstance(tensor, Elsewhere) for tensor in tensors)
        wanted = kwargs.get("device")
        here = self._is_ours(wanted) if wanted is not None else ours
        if ours or here:
            self._look(func, name, args, kwargs, tensors, here)
        if here and wanted is not None:
            kwargs["device"] = torch.device("cpu")
        out = func(*tree_map_only(Elsewhere, _inner, args), **tree_map_only(Elsewhere, _inner, kwargs))
        if name == "aten::_to_copy" and wanted is not None and self._is_ours(wanted) != ours:
            out = out.clone() if any(out is _inner(t) for t in tensors) else out
        if not here:
            return out
        out = tree_map_only(Tensor, self._wrapped, out)
        if not ours or name in COPYING - {"aten::copy_"}:
            return out
        return return_and_correct_aliasing(func, args, kwargs, out)

    def _is_ours(self, device: Any) -> bool:
        return torch.device(device).type == DEVICE.type

    def _wrapped(self, inner: Tensor) -> Tensor:
        if inner.dtype == torch.float64:
            if not self.float64:
                raise MixedDevicesError(f"float64, at {_place(self.root)}")
            self.wide[_place(self.root)] += inner.numel()
        return Elsewhere(inner)

    def _look(self, func: Any, name: str, args: Any, kwargs: Any, tensors: list[Tensor], here: bool) -> None:
        """Count, and refuse what the device would refuse."""
        place = _place(self.root)
        if not func.is_view and name not in FREE:
            self.calls[name] += 1
            self.places[place] += 1
        if name in COPYING:
            source, target = (args[0], here) if name == "aten::_to_copy" else (args[1], isinstance(args[0], Elsewhere))
            filled = name != "aten::_to_copy" and target and source.ndim == 0  # by a number
            if isinstance(source, Elsewhere) != target and not filled:
                self.waits["upload" if target else "download", place] += 1
            return
        if name in INDEXING:
            tensors = self._look_at_index(args, place)
        if name in WAITING or (name == "aten::repeat_interleave" and kwargs.get("output_size") is None):
            self.waits[name.split("::")[1], place] += 1
        if (generator := kwargs.get("generator")) is not None and here and generator.device.type == "cpu":
            raise MixedDevicesError(f"{name} with a generator of the CPU, at {place}")
        for tensor in tensors:
            if not isinstance(tensor, Elsewhere) and (tensor.ndim or name in PICKY):
                raise MixedDevicesError(f"{name} with a CPU tensor of shape {tuple(tensor.shape)}, at {place}")

    def _look_at_index(self, args: Any, place: str) -> list[Tensor]:
        """Count; the tensors that must lie on the same device."""
        indices, value = [index for index in args[1] if index is not None], args[2] if len(args) > 2 else None
        by_number = value is not None and value.numel() == 1 and not isinstance(value, Elsewhere) and len(indices) == 1
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not by_number:
            self.waits["by mask", place] += 1
        if isinstance(args[0], Elsewhere):  # which the CPU may index
            if any(not isinstance(index, Elsewhere) for index in indices):
                self.waits["index from the CPU", place] += 1
            indices = []
        return [args[0], *indices, *([] if value is None else [value])]


def _inner(tensor: Elsewhere) -> Tensor:
    return tensor.inner


def _place(root: Path) -> str:
    """file:line (function) of the innermost call in the package."""
    frame = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(str(root)):
            return f"{path[len(str(root)) + 1 :]}:{frame.f_lineno} ({frame.f_code.co_name})"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"
