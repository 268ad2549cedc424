"""Files of other tools, read without running any code that they might bring."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rankdet.convert.errors import ConversionError
from rankdet.convert.plain_pickle import read_pickle

# What the metadata of checkpoints hold beside plain data: statistics of MMEngine's log, numbers of numpy. None of it is
# needed; what is read in its place is empty.
_KNOWN = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Int32DType",
    "numpy.dtypes.Int64DType",
    "_codecs.encode",
    "builtins.getattr",
    "builtins.print",
    "__builtin__.getattr",
)
_WRAPPERS = ("module.", "model.")


@dataclass(frozen=True)
class Source:
    """The weights in a file of another tool, and what the file says of itself.

    Attributes:
        path: of the file.
        tensors: by the names that the tool gives them.
        meta: plain data, such as the names of the classes.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str] | None:
        """What the classes are called; None if the file does not say."""
        stated = self.meta.get("CLASSES") or _mapping(self.meta.get("dataset_meta")).get("classes")
        return [str(name) for name in stated] if isinstance(stated, list | tuple) else None

    @property
    def version(self) -> tuple[int, ...] | None:
        """Of MMDetection, as far as the file says it: (2, 8), or (3, 0) for any with MMEngine."""
        stated = re.findall(r"\d+", str(self.meta.get("mmdet_version", "")))
        if stated:
            return tuple(int(number) for number in stated[:2])
        return (3, 0) if "mmengine_version" in self.meta else None

    @property
    def configuration(self) -> str:
        """The configuration that MMDetection put into the file; empty if it did not."""
        return str(self.meta.get("config") or self.meta.get("cfg") or "")


def read_source(path: str | Path) -> Source:
    """Read a ``.pth``, ``.pt``, ``.safetensors`` or, of Detectron2, ``.pkl`` file; tensors go to the CPU.

    Raises:
        ConversionError: the file is missing or damaged, holds code, or has no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"there is no file {path}")
    content = _content(path)
    holder = content
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content.get(key), Mapping):
            holder = content[key]
            break
    tensors = {_bare(str(name), holder): value for name, value in holder.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ConversionError(f"{path} holds no tensors by names; its entries are {', '.join(map(str, content))[:200]}")
    return Source(path, tensors, _mapping(content.get("meta")))


def _content(path: Path) -> Mapping[Any, Any]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = read_pickle(path) if path.suffix == ".pkl" else _torch_file(path)
    except ConversionError:
        raise
    except Exception as error:  # whatever a reader stumbles over in a file that is none
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        named = re.search(r"unsupported global:? (?:GLOBAL )?([\w.]+)", str(error), re.IGNORECASE)
        if named:
            said = f"it holds {named[1]}, which is not read from files of unknown origin"
        elif "weights_only" in said:  # torch's advice is to allow the code that a file may bring
            said = "it is none, or is damaged"
        raise ConversionError(f"{path} cannot be read as a file of weights: {said}") from error
    if not isinstance(content, Mapping):
        raise ConversionError(f"{path} holds a {type(content).__name__}, not weights by names")
    return content


def _torch_file(path: Path) -> Any:
    with _inert_globals():
        return torch.load(path, map_location="cpu", weights_only=True)


@contextmanager
def _inert_globals() -> Iterator[None]:
    """Lets a file name what is `_KNOWN`; an empty object comes in its place, and nothing is called."""
    before = list(torch.serialization.get_safe_globals())
    torch.serialization.add_safe_globals([_stand_in(name) for name in _KNOWN])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _stand_in(path: str) -> type:
    """A class of the name of another one that takes any arguments and state, and keeps none."""
    module, _, name = path.rpartition(".")

    def ignore(self: Any, *_: Any) -> None:
        """Nothing."""

    return type(name, (), {"__module__": module, "__qualname__": name, "__init__": ignore, "__setstate__": ignore})


def _bare(name: str, names: Mapping[Any, Any]) -> str:
    """A name without the wrapper that all of them have."""
    for wrapper in _WRAPPERS:
        if all(str(other).startswith(wrapper) for other in names):
            return name.removeprefix(wrapper)
    return name


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
