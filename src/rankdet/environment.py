"""What a bug report, and the record of a training, have to say of the machine and the libraries; nothing private."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

import rankdet

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "jsonargparse",
    "numpy",
    "pycocotools",
    "msgspec",
    "pillow",
    "PyYAML",
    "rich",
    "safetensors",
    "tensorboardX",
    "matplotlib",
    "anyascii",
)


def describe_environment() -> str:
    """One line for each fact: its name, and what it is."""
    return "\n".join(f"{name:<13}{value}" for name, value in facts())


def facts() -> Iterator[tuple[str, str]]:
    """Versions of rankdet and its libraries, system, processor and accelerators, by name."""
    yield "rankdet", f"{rankdet.__version__} ({_origin(Path(rankdet.__file__).parent)})"
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", platform.platform()
    yield "processor", f"{_processor()}, {os.cpu_count()} cores"
    for library in LIBRARIES:
        yield library, version_of(library)
    yield from _accelerators()


def version_of(library: str) -> str:
    """The installed version of a library by its name on PyPI."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "not installed"


def _origin(package: Path) -> str:
    """Where the code comes from: an installation, perhaps of a commit, or a checkout, perhaps changed."""
    try:
        distribution = metadata.distribution("rankdet")
    except metadata.PackageNotFoundError:
        return _checkout(package)
    if Path(str(distribution.locate_file("rankdet"))) != package:
        return _checkout(package)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    commit = origin.get("vcs_info", {}).get("commit_id", "")
    return f"installed from commit {commit[:12]}" if commit else "installed"


def _checkout(package: Path) -> str:
    root = package.parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top) != root.resolve():
        return "from a folder of sources"
    commit = _git(root, "rev-parse", "--short=12", "HEAD") or "none"
    changed = ", changed since" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return f"from a checkout of commit {commit}{changed}"


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says of a folder; None without git, and outside of a repository."""
    try:
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _processor() -> str:
    """The model of the processor; Linux tells it in a file, the others tell Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (models or [platform.processor()])[0] or platform.machine()


def _accelerators() -> Iterator[tuple[str, str]]:
    """What torch can compute on; why not, where it is installed and broken."""
    if version_of("torch") == "not installed":
        return
    try:
        torch = import_module("torch")
    except (ImportError, OSError) as error:
        yield "torch fails", str(error).replace(os.path.expanduser("~"), "~")
        return
    yield "CUDA", _cuda(torch)
    yield "MPS", "available" if torch.backends.mps.is_available() else "not available"


def _cuda(torch: ModuleType) -> str:
    built = f"torch was built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch was built without CUDA"
    if torch.version.hip:
        built = f"torch was built for ROCm {torch.version.hip}"
    if not torch.cuda.is_available():
        return f"not available ({built})"
    devices = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
    return f"{devices} ({built}, cuDNN {torch.backends.cudnn.version()})"
