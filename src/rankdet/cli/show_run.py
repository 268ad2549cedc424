"""``rankdet show run FOLDER``: what is in the folder of a training, how it came to be, and how to go on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rankdet.cli.errors import CommandError
from rankdet.garbage import without_garbage_collection

_FILES = {
    "best.ckpt": "the best epoch, for predict, eval and report",
    "best.json": "its evaluation, all numbers and per class",
    "last.ckpt": "the state to continue from, with --resume",
    "config.yaml": "the resolved configuration, for --config",
    "metrics.csv": "losses, rate and evaluations by step",
    "run.json": "what this page is made from: each start, its command, versions and machine",
    "tensorboard": "the numbers for TensorBoard",
    "pictures": "predictions beside the ground truth",
    "nonfinite": "batches of skipped steps",
    "run.lock": "names the process that is training here",
}
_SHOWN = ("rankdet", "python", "torch", "torchvision", "timm", "lightning", "processor", "CUDA")


def show_run(arguments: Sequence[str]) -> None:
    """Print it; `CommandError` for a folder that holds no run."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise CommandError("name the folder of one run, as in: rankdet show run runs/demo")
    folder = Path(arguments[0])
    if not any((folder / name).exists() for name in ("last.ckpt", "best.ckpt", "run.json")):
        raise CommandError(f"{folder} holds no run: it has neither last.ckpt nor run.json")
    with without_garbage_collection():
        from rankdet.ops.checkpoint import read_summary
    last = read_summary(folder / "last.ckpt") if (folder / "last.ckpt").exists() else {}
    print(folder)
    for name, text in _facts(folder, last):
        print(f"  {name:<12} {text}")
    print("\nfiles:")
    for path in sorted(folder.iterdir()):
        print(f"  {path.name:<12} {_size(path):>9}  {_FILES.get(path.name, '')}".rstrip())
    for line in _history(folder):
        print(line)


def _facts(folder: Path, last: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    progress, record = last.get("rankdet_progress", {}), last.get("rankdet", {})
    yield "state", _state(folder, last)
    if record.get("model"):
        yield "model", record["model"]["class_path"].rpartition(".")[2]
    if names := record.get("categories", {}).get("names"):
        yield "classes", f"{len(names)}: {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    if (best := _best(folder)) is not None:
        yield "best", best
    for state in last.get("callbacks", {}).values():
        if steps := state.get("steps"):
            yield "left out", f"{len(steps)} steps that were not finite: {', '.join(map(str, steps[:8]))}"
    if progress:
        done = progress["batches_seen"] // progress["batches_per_epoch"]
        finished = done >= progress.get("settings", {}).get("schedule.epochs", math.inf)
        more = f" --schedule.epochs {2 * done}" if finished else ""
        yield "to train on" if finished else "to go on", f"rankdet train --resume {folder / 'last.ckpt'}{more}"


def _state(folder: Path, last: Mapping[str, Any]) -> str:
    from rankdet.train.lock import LOCK, read_owner
    from rankdet.train.record import RUNNING, read_sessions

    progress = last.get("rankdet_progress", {})
    where = "nothing saved yet"
    if progress:
        epochs = progress["batches_seen"] / progress["batches_per_epoch"]
        wanted = progress.get("settings", {}).get("schedule.epochs")
        where = f"{epochs:.4g}{f' of {wanted}' if wanted else ''} epochs, step {last['global_step']}"
    owner, _ = read_owner(folder / LOCK)
    sessions = read_sessions(folder / "run.json")
    outcome = sessions[-1].outcome if sessions else "not written down"
    if owner is not None:
        return f"held by {owner}; last saved: {where}"
    return f"{'broken off without a word' if outcome == RUNNING else outcome}; {where}"


def _best(folder: Path) -> str | None:
    from rankdet.ops.checkpoint import read_summary

    if not (folder / "best.ckpt").exists():
        return None
    content = read_summary(folder / "best.ckpt")
    metrics = content["rankdet"].get("metrics", {})
    named = [f"{name} {value:.3f}" for name, value in metrics.items() if name in ("AP", "oLRP") and _known(value)]
    return f"epoch {content['epoch'] + 1}: {', '.join(named) or 'AP is undefined'}"


def _known(value: float) -> bool:
    return not math.isnan(value) and value != -1


def _history(folder: Path) -> Iterator[str]:
    from rankdet.train.record import read_sessions

    sessions = read_sessions(folder / "run.json")
    for number, session in enumerate(sessions, start=1):
        together = f"{session.processes} processes" if session.processes > 1 else "1 process"
        ended = f" {session.ended}" if session.ended else ""
        yield f"\nstart {number}: {session.began}, from step {session.step}, {session.outcome}{ended}"
        yield f"  command      {session.command}"
        yield f"  where        {session.host}: {session.device}, {together}"
        if session.changed:
            yield f"  changed      {', '.join(session.changed)}"
        if number == 1 or session.environment != sessions[number - 2].environment:
            yield from (f"  {name:<12} {session.environment[name]}" for name in _SHOWN if name in session.environment)


def _size(path: Path) -> str:
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
