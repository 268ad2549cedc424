"""Ends trainings at chosen moments, as Ctrl-C, a cluster or a power cut would, goes on, and compares the ends.

Each training is the command line in a process of its own (several with gloo), forked from one that has imported
everything, so that it begins at once. A :class:`Trap` sits in it and raises a signal at a moment of its work.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import yaml

from tests.processes import CONTEXT, as_torchrun, begin_anew, free_port
from tests.train.interruption import same

BATCHES, EPOCHS, VALIDATION = 4, 3, 2
"""Batches of a process in an epoch, epochs, and batches of an evaluation."""
SECONDS, GRACE = 120.0, 30.0
"""After which a training is taken to hang, and after which its processes are when one of them has failed."""

MOMENTS = {  # with how often each comes in a training
    "the beginning": 1,
    "a step begins": BATCHES * EPOCHS,
    "a step ends": BATCHES * EPOCHS,
    "an epoch ends": EPOCHS,
    "an evaluation": VALIDATION * EPOCHS,
    "a file is half written": 30,
    "a file is written": 30,
    "a file is in its place": 30,
    "the end": 1,
}


@dataclass(frozen=True)
class Trap:
    """Raises a signal, or fails as a full disk does, at a moment of a training, the `count`-th of its kind."""

    moment: str
    count: int
    signal: int
    rank: int | None = 0

    def set(self, rank: int) -> None:
        """Lie in wait, in the process of this rank; None is any."""
        if self.rank not in (None, rank):
            return
        from rankdet.train import checkpoints, evaluation, lock, progress, run, task

        places: dict[str, tuple[Any, str, bool]] = {
            "the beginning": (lock.FolderLock, "acquire", False),
            "a step begins": (task.DetectionTask, "training_step", True),
            "a step ends": (checkpoints.Checkpoints, "on_train_batch_end", False),
            "an epoch ends": (progress.ShowProgress, "on_train_epoch_end", True),
            "an evaluation": (evaluation, "detect_batch", True),
            "a file is half written": (Path, "write_bytes", True),
            "a file is written": (os, "replace", True),
            "a file is in its place": (os, "replace", False),
            "the end": (run, "_finish", True),
        }
        owner, name, before = places[self.moment]
        seen = 0
        original = getattr(owner, name)

        @functools.wraps(original)
        def watched(*arguments: Any, **named: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == self.count and before:
                if name == "write_bytes":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                self._spring()
            result = original(*arguments, **named)
            if seen == self.count and not before:
                self._spring()
            return result

        setattr(owner, name, watched)

    def _spring(self) -> None:
        """Raise the signal here, and in the loading processes, as SLURM does."""
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if self.signal != signal.SIGKILL and children:  # from elsewhere: they obey this process
            subprocess.run(["kill", f"-{self.signal}", *children], check=True)
        os.kill(os.getpid(), self.signal)


@dataclass(frozen=True)
class Setting:
    """How the trainings of a comparison are run."""

    processes: int = 1
    accumulate: int = 1
    workers: int = 0
    strategy: str = "auto"


@dataclass
class Ended:
    """How the processes of a training ended, and what they said."""

    codes: list[int]
    said: str
    seconds: float


@dataclass
class Trial:
    """A training that was ended at some moments and resumed after each, and what was wrong in the end."""

    setting: Setting
    traps: list[Trap]
    codes: list[list[int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for a report."""
        names = [{**asdict(trap), "signal": signal.Signals(trap.signal).name} for trap in self.traps]
        return {**asdict(self.setting), "traps": names, "codes": self.codes, "faults": self.faults}


def configuration(folder: Path, setting: Setting) -> Path:
    """A file that describes a training of a second or two."""
    shapes = {"image_size": 64, "num_classes": 3}
    images = BATCHES * 2 * setting.processes
    content = {
        "model": {"class_path": "tests.train.fakes.TinyDetector", "init_args": {"width": 8}},
        "data": {
            "train": {"class_path": "Shapes", "init_args": {"length": images, "seed": 0, **shapes}},
            "val": {"class_path": "Shapes", "init_args": {"length": VALIDATION * 2, "seed": 1, **shapes}},
            "resize": "KeepSize",
            "batch_size": 2,
            "workers": setting.workers,
        },
        "optimiser": {"class_path": "SGD", "init_args": {"lr": 0.05}},
        "schedule": {"epochs": EPOCHS, "warmup_iterations": 3, "decay": "Cosine"},
        "trainer": {
            "accelerator": "cpu",
            "devices": setting.processes,
            "strategy": setting.strategy,
            "accumulate": setting.accumulate,
            "log_every": 1,
            "pictures": 0,
        },
    }
    path = folder / "experiment.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


Names = dict[str, Any]


def as_srun(rank: int, *, processes: int, port: int) -> Names:
    """What srun tells the tasks that it starts, on a cluster of one host."""
    own = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NODEID": 0, "SLURM_NTASKS": processes}
    job = {"SLURM_JOB_ID": 4711, "SLURM_JOB_NAME": "recovery", "SLURM_NODELIST": "localhost", "MASTER_PORT": port}
    return own | job | {"SLURM_NTASKS_PER_NODE": processes, "SLURM_NNODES": 1}


def start(
    arguments: list[str],
    *,
    processes: int,
    log: Path,
    trap: Trap | None = None,
    starter: Callable[..., Names] = as_torchrun,
    more: Names | None = None,
) -> list[BaseProcess]:
    """Begin a training, one process for each rank, with what `starter` and `more` put into its environment."""
    port, begun = free_port(), []
    for rank in range(processes):
        names = {**starter(rank, processes=processes, port=port), **(more or {})}
        process = CONTEXT.Process(target=_run, args=(arguments, names, trap, rank, log))
        process.start()
        begun.append(process)
    return begun


def wait(processes: list[BaseProcess], log: Path, *, seconds: float = SECONDS) -> Ended:
    """Wait for all; those that hang are killed, which shows as the code of SIGKILL and a line of ours."""
    began = time.monotonic()
    limit = began + seconds
    while any(process.is_alive() for process in processes) and time.monotonic() < limit:
        time.sleep(0.01)
        if any(process.exitcode for process in processes):
            limit, seconds = (min(limit, time.monotonic() + GRACE), 0.0) if seconds else (limit, seconds)
    hanging = [process.pid for process in processes if process.is_alive()]
    for process in processes:
        process.kill()
        process.join()
    said = log.read_text(errors="replace") if log.exists() else ""
    if hanging:
        said += f"\nHANGS: {hanging}"
    return Ended([process.exitcode or 0 for process in processes], said, time.monotonic() - began)


def train(
    folder: Path,
    setting: Setting,
    *,
    trap: Trap | None = None,
    output: Path | None = None,
    starter: Callable[..., Names] = as_torchrun,
    more: Names | None = None,
) -> Ended:
    """One training to its end, or to where the trap closes; it goes on by itself where there is something to go on."""
    output = output if output is not None else folder / "run"
    log = folder / f"log-{len(list(folder.glob('log-*')))}.txt"
    arguments = ["train", "--config", str(folder / "experiment.yaml"), "--output", str(output), "--resume", "auto"]
    begun = start(arguments, processes=setting.processes, log=log, trap=trap, starter=starter, more=more)
    return wait(begun, log)


def compare(whole: Path, parts: Path) -> list[str]:
    """What differs between a training without interruption and one with."""
    faults = []
    for name in ("last.ckpt", "best.ckpt"):
        if not same(*(torch.load(folder / name, weights_only=True) for folder in (whole, parts))):
            faults.append(f"{name} differs")
    for name in ("metrics.csv", "best.json", "config.yaml"):
        if (whole / name).read_text() != (parts / name).read_text():
            faults.append(f"{name} differs")
    strays = {path.name for path in parts.iterdir()} - {path.name for path in whole.iterdir()}
    return faults + ([f"left behind: {sorted(strays)}"] if strays else [])


def try_out(folder: Path, whole: Path, setting: Setting, traps: list[Trap], *, output: Path | None = None) -> Trial:
    """Train into each trap in turn, then to the end, then once more; compare with the run in `whole`."""
    trial = Trial(setting, traps)
    configuration(folder, setting)
    for trap in traps:
        ended = train(folder, setting, trap=trap, output=output)
        trial.codes.append(ended.codes)
        trial.faults += _faults_of(ended, trap)
        if ended.codes == [0] * setting.processes:
            break
    for turn in ("to the end", "once more"):
        ended = train(folder, setting, output=output)
        trial.codes.append(ended.codes)
        if any(ended.codes):
            trial.faults.append(f"{turn}: codes {ended.codes}, {ended.said[-2000:]}")
            return trial
    if "the training is finished" not in ended.said:
        trial.faults.append("a finished training does not say so")
    trial.faults += compare(whole, output if output is not None else folder / "run")
    return trial


def random_traps(generator: random.Random, *, processes: int) -> list[Trap]:
    """One to three moments, and how the training is ended at each."""
    traps = []
    for _ in range(generator.choice((1, 1, 2, 3))):
        moment = generator.choice(list(MOMENTS))
        number = generator.choice((signal.SIGINT, signal.SIGTERM, signal.SIGKILL))
        rank = generator.choice((None, *range(processes)))
        if moment.startswith("a file") or moment in ("the beginning", "the end"):
            rank = 0
        traps.append(Trap(moment, generator.randint(1, MOMENTS[moment]), int(number), rank))
    return traps


@contextlib.contextmanager
def small_disk(folder: Path, *, kilobytes: int) -> Iterator[Callable[[int], None] | None]:
    """A disk of this size at `folder`, if we may mount one; gives what changes its size, or None if we may not."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.system(f"mount -t tmpfs -o size={kilobytes}k tmpfs '{folder}' 2>/dev/null"):
        yield None
        return
    try:
        yield lambda size: os.system(f"mount -o remount,size={size}k '{folder}'")
    finally:
        os.system(f"umount -l '{folder}'")


def _faults_of(ended: Ended, trap: Trap) -> list[str]:
    """What is wrong with the way in which a training ended."""
    faults = []
    if trap.moment == "the beginning":  # the processes have not met; whoever has started them ends them
        return []
    if "HANGS" in ended.said:
        faults.append(f"{trap}: hangs: {ended.said[-1000:]}")
    if "Traceback" in ended.said:
        faults.append(f"{trap}: a traceback: {ended.said[-3000:]}")
    codes = (0, 130, 2) if trap.moment == "the end" and len(ended.codes) > 1 else (0, 130)
    if trap.signal != signal.SIGKILL and any(code not in codes for code in ended.codes):
        faults.append(f"{trap}: codes {ended.codes}")
    return faults


def _run(arguments: list[str], names: Names, trap: Trap | None, rank: int, log: Path) -> None:
    begin_anew(names, log)
    multiprocessing.set_start_method("fork", force=True)  # of loading processes, as where nobody has been forked
    from rankdet.cli import main

    if trap is not None:
        trap.set(rank)
    code = main(arguments)
    sys.stdout.flush()
    sys.exit(code)
