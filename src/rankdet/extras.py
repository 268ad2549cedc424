"""What brings a library that is not installed: the extras of the package, and the message that names one."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_LIBRARIES = {
    "losses": ("torch",),
    "train": (
        *("torchvision", "timm", "lightning", "jsonargparse", "docstring_parser", "safetensors", "tensorboardX"),
        *("matplotlib", "anyascii"),
    ),
    "transformers": ("transformers", "scipy"),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "hub": ("huggingface_hub",),
    "video": ("cv2", "torchcodec"),
    "wandb": ("wandb",),
    "mlflow": ("mlflow",),
}
_EXTRA_OF = {library: extra for extra, libraries in _LIBRARIES.items() for library in libraries}


class MissingLibraryError(ImportError):
    """A library is needed that an extra of the package brings; the message names both."""


def install(extra: str) -> str:
    """The command that brings an extra.

    >>> install("hub")
    'pip install "rankdet[hub]"'
    """
    return f'pip install "rankdet[{extra}]"'


@contextmanager
def needed_for(purpose: str, *, torch_with: str = "losses") -> Iterator[None]:
    """Where an import fails in the block, `MissingLibraryError` says for what it was needed, and how to install it.

    ``torch_with`` is the extra to name for torch, which several bring; of blocks within each other the outer one knows.

    >>> with needed_for("reading minds", torch_with="train"):
    ...     raise ModuleNotFoundError("No module named 'torch'", name="torch")
    Traceback (most recent call last):
    rankdet.extras.MissingLibraryError: reading minds needs torch, which is not installed: pip install "rankdet[train]"
    """
    try:
        yield
    except (ModuleNotFoundError, MissingLibraryError) as error:
        library = (error.name or "").partition(".")[0]
        is_said = isinstance(error, MissingLibraryError) and library != "torch"
        if is_said or library not in _EXTRA_OF:
            raise
        extra = torch_with if library == "torch" else _EXTRA_OF[library]
        message = f"{purpose} needs {library}, which is not installed: {install(extra)}"
        raise MissingLibraryError(message, name=library) from error


def require(purpose: str, *libraries: str, torch_with: str = "losses") -> tuple[str, ...]:
    """Import libraries, or say as `needed_for` does that one is missing: for a package that imports all it has at once.

    >>> require("arithmetic", "math")
    ('math',)
    """
    with needed_for(purpose, torch_with=torch_with):
        for library in libraries:
            importlib.import_module(library)
    return libraries


def exported(package: str, modules: Mapping[str, str], name: str, *, torch_with: str = "train") -> Any:
    """What a package exports as ``name``, imported now from the module where it is: for its ``__getattr__`` (PEP 562).

    Raises:
        AttributeError: for a name that is not in ``modules``.
        MissingLibraryError: if the module needs a library that is not installed, as of `needed_for`.

    >>> exported("rankdet", {"install": "extras"}, "install") is install
    True
    """
    if name not in modules:
        raise AttributeError(f"module {package!r} has no attribute {name!r}; it has {', '.join(modules)}")
    with needed_for(f"{package}.{name}", torch_with=torch_with):
        return getattr(importlib.import_module(f"{package}.{modules[name]}"), name)
