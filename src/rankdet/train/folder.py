"""Where a run goes: a folder of its own, agreed on by all processes, held by one training at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from rankdet.ops.writing import remove_partial, replacing
from rankdet.train.files import fresh_folder, make_folder
from rankdet.train.lock import FolderLock

LAST, BEST, BEST_EVALUATION = "last.ckpt", "best.ckpt", "best.json"
CONFIG, METRICS, RECORD = "config.yaml", "metrics.csv", "run.json"
PICTURES, NONFINITE = "pictures", "nonfinite"

_AGREED = "RANKDET_RUN_FOLDER"
_ALL_RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, by its parts; `confirm` raises unless this training still holds it."""

    path: Path
    confirm: Callable[[], None] = lambda: None

    @property
    def last(self) -> Path:
        """The checkpoint to continue from."""
        return self.path / LAST

    @property
    def best(self) -> Path:
        """The checkpoint to use."""
        return self.path / BEST

    @property
    def evaluation(self) -> Path:
        """The evaluation of the best checkpoint."""
        return self.path / BEST_EVALUATION

    def bring(self, checkpoint: Path) -> None:
        """Copy the run of a checkpoint in another folder, so that it can continue here."""
        beside = {name: checkpoint.parent / name for name in (BEST, BEST_EVALUATION, METRICS, RECORD)}
        for name, source in {**beside, LAST: checkpoint}.items():
            if source.is_file():
                with replacing(self.path / name) as partial:
                    shutil.copyfile(source, partial)


@contextmanager
def claimed_folder(
    output: str | Path | None, *, name: str, resume: Path | None, tell: Callable[[str], None] = print
) -> Iterator[RunFolder]:
    """The folder of a run, made, writable and held against other trainings in the block.

    A folder that was made here and in which nothing came to be is removed again.

    Args:
        output: what the user asked for; None for the folder of `resume`, or a new one in ``runs``.
        name: of the new folder.
        resume: checkpoint to continue from.
        tell: called with a line for people when something has to be waited for.

    Raises:
        ValueError: when `output` holds another run or one that is going on, or when processes started by others cannot
            know of a new folder.
        OSError: when it cannot be written to.
    """
    if output is None and resume is not None:
        output = resume.parent
    if not is_first_process():
        yield RunFolder(_agreed_folder() if output is None else Path(output))
        return
    made = output is None or not Path(output).exists()
    path = _new_folder(name) if output is None else make_folder(Path(output))
    os.environ[_AGREED] = str(path)  # Lightning starts the other processes with this environment
    lock = FolderLock(path, tell=tell)
    try:
        lock.acquire()
        _check_no_other_run(path, resume)
        remove_partial(path)
        yield RunFolder(path, lock.confirm)
    finally:
        lock.release()
        if made:
            with contextlib.suppress(OSError):  # there is something in it
                path.rmdir()


def is_first_process() -> bool:
    """Whether this process speaks and writes for all; known from the environment before they have met."""
    return all(int(os.environ.get(name, "0")) == 0 for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID", "NODE_RANK"))


def _agreed_folder() -> Path:
    if _AGREED not in os.environ:
        _refuse_to_guess()
    return Path(os.environ[_AGREED])


def _new_folder(name: str) -> Path:
    started_by_others = {"TORCHELASTIC_RUN_ID", "SLURM_PROCID", "NODE_RANK"} & set(os.environ)
    if started_by_others and int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1"))) > 1:
        _refuse_to_guess()
    return fresh_folder(_ALL_RUNS, name)


def _refuse_to_guess() -> NoReturn:
    raise ValueError("processes that others start must agree on the folder of the run; name it with --output")


def _check_no_other_run(folder: Path, resume: Path | None) -> None:
    continues = resume is not None and resume.parent.resolve() == folder.resolve()
    if not continues and (folder / LAST).exists():
        raise ValueError(
            f"the folder {folder} already holds a run; choose another one, or continue that run with "
            f"--resume {folder / LAST}"
        )
