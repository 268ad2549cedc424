"""The presets: experiments as YAML files, found by path or by name."""

from __future__ import annotations

from pathlib import Path

from rankdet.cli.errors import CommandError, near

_SHARED = ("criteria", "data", "schedules")


def presets_folder() -> Path:
    """Where the presets lie: in the installed package, or beside the sources of a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent.parent / "configs"


def preset_names() -> list[str]:
    """The names that ``--config`` takes, sorted; files that are only parts of presets are left out."""
    folder = presets_folder()
    names = (file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    return sorted(name for name in names if name.split("/")[0] not in _SHARED)


def preset_title(name: str) -> str:
    """What a preset says of itself: the comment in its first line."""
    first = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def find_config(name: str) -> Path:
    """The file of a path, of a preset or of a part beside the presets; `CommandError` with near names if none."""
    path = Path(name)
    if path.is_file():
        return path
    preset = presets_folder() / f"{name.removesuffix('.yaml')}.yaml"
    if preset.is_file():
        return preset
    shorter = name.removesuffix(".yaml").removeprefix("configs/")
    raise CommandError(
        f"there is no configuration {name}{near(shorter, preset_names())} "
        "(give a YAML file, or a name that `rankdet show presets` lists)"
    )
