"""Does a training that was ended come to the end that it would have come to? Many moments, at random.

    python benchmarks/recovery.py                       # the table of benchmarks/results/recovery.md, in half an hour
    python benchmarks/recovery.py --trials 2 --output /dev/stdout

A trial ends a training one to three times, each time at a random moment (a step, a file that is half written, an
evaluation, the end of an epoch, ...) and in a random way (SIGINT, SIGTERM or SIGKILL, to one process or to all), goes
on after each, and compares the end with that of a training that nobody has ended: weights, state of the optimiser and
of the schedule, metrics, evaluation and configuration, bit by bit. It is at fault as well if a process hangs, if it
ends with a traceback, if anything is left behind in the folder, or if a finished training does not end with code 0.
Trainings are those of tests/recovery, of a detector so small that a trial takes seconds; each is a process of its own,
or several that talk by gloo. Trials on a small disk end a training by filling it instead. The seed is fixed.
"""

from __future__ import annotations

import argparse
import collections
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

from rankdet.environment import facts  # noqa: E402
from tests.recovery.harness import (  # noqa: E402
    Setting,
    Trap,
    Trial,
    compare,
    configuration,
    random_traps,
    small_disk,
    train,
    try_out,
)

MEMORY = Path("/dev/shm")
SETTINGS = {
    "one process": Setting(),
    "one process, two batches a step": Setting(accumulate=2),
    "one process, one loading process": Setting(workers=1),
    "two processes": Setting(processes=2),
    "two processes, two batches a step": Setting(processes=2, accumulate=2),
    "three processes, ddp_find_unused_parameters_true": Setting(
        processes=3, strategy="ddp_find_unused_parameters_true"
    ),
}
KILOBYTES = 4096


def main() -> int:
    """Run the trials and write the table; 1 if any was at fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12, help="of each kind of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="benchmarks/results/recovery.md")
    given = parser.parse_args()
    generator, rows, faults, began = random.Random(given.seed), [], [], time.time()
    moments: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        for title, setting in SETTINGS.items():
            trials = [trial for trial in several(Path(name), title, setting, generator, given.trials)]
            moments.update(f"{signal.Signals(trap.signal).name}: {trap.moment}" for t in trials for trap in t.traps)
            rows.append(row(title, trials))
            faults += [(title, trial) for trial in trials if trial.faults]
        if MEMORY.is_dir():
            trials = on_another_disk(Path(name), generator, given.trials)
            rows.append(row("one process, folder on another file system", trials))
            faults += [("another file system", trial) for trial in trials if trial.faults]
        trials = on_a_full_disk(Path(name), generator, given.trials)
        rows.append(row("one process, a disk that fills", trials))
        faults += [("full disk", trial) for trial in trials if trial.faults]
    text = report(rows, moments, faults, minutes=(time.time() - began) / 60, given=given)
    Path(given.output).write_text(text, encoding="utf-8")
    print(text)
    return int(bool(faults))


def several(folder: Path, title: str, setting: Setting, generator: random.Random, count: int) -> list[Trial]:
    """Trials of one kind of training, and the training to compare with."""
    base = folder / title.replace(" ", "-").replace(",", "")
    whole = uninterrupted(base, setting)
    trials = []
    for number in range(count):
        own = base / str(number)
        own.mkdir()
        trials.append(try_out(own, whole, setting, random_traps(generator, processes=setting.processes)))
        print(f"{title} {number}: {trials[-1].codes} {trials[-1].faults or 'the same'}", flush=True)
        shutil.rmtree(own)
    return trials


def uninterrupted(base: Path, setting: Setting) -> Path:
    """The folder of a training that nobody ends."""
    base.mkdir()
    configuration(base, setting)
    ended = train(base, setting)
    assert not any(ended.codes), ended.said
    return base / "run"


def on_another_disk(folder: Path, generator: random.Random, count: int) -> list[Trial]:
    """Killed while files are written, with the run on another file system than the temporary files."""
    whole, trials = uninterrupted(folder / "other", Setting()), []
    for number in range(count):
        output = Path(tempfile.mkdtemp(dir=MEMORY)) / "run"
        own = folder / "other" / str(number)
        own.mkdir()
        moment = generator.choice(["a file is half written", "a file is written", "a file is in its place"])
        trap = Trap(moment, generator.randint(1, 25), int(signal.SIGKILL))
        trials.append(try_out(own, whole, Setting(), [trap], output=output))
        print(f"another disk {number}: {trials[-1].codes} {trials[-1].faults or 'the same'}", flush=True)
        shutil.rmtree(output.parent)
    return trials


def on_a_full_disk(folder: Path, generator: random.Random, count: int) -> list[Trial]:
    """The disk of the run is full from some moment on; then there is room again. None where no disk can be mounted."""
    whole, trials = uninterrupted(folder / "full", Setting()), []
    for number in range(count):
        own = folder / "full" / str(number)
        own.mkdir()
        with small_disk(own / "disk", kilobytes=KILOBYTES) as resize:
            if resize is None:
                return []
            trials.append(fill(own, whole, generator))
        print(f"full disk {number}: {trials[-1].codes} {trials[-1].faults or 'the same'}", flush=True)
    return trials


def fill(own: Path, whole: Path, generator: random.Random) -> Trial:
    """Train a while, leave little room, train on until the disk is full, make room, train to the end."""
    trial, output = Trial(Setting(), []), own / "disk" / "run"
    configuration(own, Setting())
    if generator.random() < 0.7:
        trap = Trap("a step ends", generator.randint(1, 11), int(signal.SIGTERM))
        trial.codes.append(train(own, Setting(), trap=trap, output=output).codes)
    room = shutil.disk_usage(own / "disk").free
    (own / "disk" / "other").write_bytes(b"x" * max(0, room - generator.randint(0, 60_000)))
    before = (output / "last.ckpt").read_bytes() if (output / "last.ckpt").exists() else None
    ended = train(own, Setting(), output=output)
    trial.codes.append(ended.codes)
    if "Traceback" in ended.said or ended.codes not in ([0], [2]):
        trial.faults.append(ended.said[-2000:])
    if before is not None and not (output / "last.ckpt").exists():
        trial.faults.append("the old checkpoint is gone")
    (own / "disk" / "other").unlink()
    trial.codes.append(train(own, Setting(), output=output).codes)
    return replace(trial, faults=trial.faults + compare(whole, output))


def row(title: str, trials: list[Trial]) -> str:
    """One line of the table."""
    ends = collections.Counter(signal.Signals(trap.signal).name for trial in trials for trap in trial.traps)
    shown = ", ".join(f"{count} {name}" for name, count in sorted(ends.items()))
    same = sum(not trial.faults for trial in trials)
    return f"| {title} | {len(trials)} | {shown or 'no room'} | {same} |"


def report(rows: list[str], moments: dict[str, int], faults: list, *, minutes: float, given: argparse.Namespace) -> str:
    """The whole page."""
    known = dict(facts())
    versions = "; ".join(f"{name} {known[name]}" for name in ("rankdet", "python", "torch", "lightning"))
    command = f"`python benchmarks/recovery.py --trials {given.trials} --seed {given.seed}`"
    lines = [
        "# Trainings that were ended and resumed",
        "",
        f"{command}, {minutes:.0f} minutes on {known['processor']}.",
        f"Versions: {versions}.",
        "",
        "| training | trials | ended by | the same end, bit by bit |",
        "|---|---|---|---|",
        *rows,
        "",
        "Moments at which the trainings above the last two lines were ended:",
        "",
        "| signal and moment | times |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(moments.items())),
        "",
    ]
    for title, trial in faults:
        lines += [f"At fault: {title}: {trial.to_dict()}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
