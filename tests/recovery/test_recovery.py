"""Trainings that were ended at any moment, in any way, and resumed, come to the same end, bit for bit.

A few moments; ``python benchmarks/recovery.py`` tries many at random.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recovery.harness import Setting, Trap, as_srun, compare, configuration, small_disk, train, try_out

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and asks /proc")

INT, TERM, KILL = int(signal.SIGINT), int(signal.SIGTERM), int(signal.SIGKILL)
ALONE, ACCUMULATING, TWO = Setting(), Setting(accumulate=2), Setting(processes=2)


@pytest.mark.parametrize(
    ("setting", "traps"),
    [
        (ALONE, [Trap("a step begins", 6, TERM), Trap("a file is half written", 5, KILL)]),
        (ALONE, [Trap("an evaluation", 5, TERM), Trap("a file is in its place", 1, KILL)]),
        (Setting(workers=1), [Trap("a step begins", 6, TERM), Trap("a step ends", 2, INT)]),
        (TWO, [Trap("a step begins", 3, TERM, rank=1), Trap("a step ends", 2, KILL, rank=1)]),
        (Setting(processes=2, accumulate=2), [Trap("a step begins", 5, TERM, rank=None)]),
    ],
)
def test_comes_to_the_same_end(whole: Callable[[Setting], Path], tmp_path: Path, setting: Setting, traps: list[Trap]):
    trial = try_out(tmp_path, whole(setting), setting, traps)
    assert trial.faults == []
    expected = [128 + INT if trap.signal != KILL else -KILL for trap in traps]
    assert [
        min(codes) if trap.signal == KILL else codes[0] for trap, codes in zip(traps, trial.codes, strict=False)
    ] == expected


def test_no_step_is_lost_by_a_signal(tmp_path: Path):
    """The request is met at the next step, also while gradients are accumulated and when one process of two gets it."""
    import torch

    for number, setting in enumerate((ACCUMULATING, Setting(processes=2))):
        folder = tmp_path / str(number)
        folder.mkdir()
        configuration(folder, setting)
        ended = train(folder, setting, trap=Trap("a step begins", 2, TERM, rank=setting.processes - 1))
        assert set(ended.codes) == {130}, ended.said
        assert ended.said.count(f"go on with --resume {folder / 'run' / 'last.ckpt'}") == setting.processes
        seen = torch.load(folder / "run" / "last.ckpt", weights_only=True)["rankdet_progress"]["batches_seen"]
        assert seen >= 2
        assert seen % setting.accumulate == 0


def test_the_others_say_which_process_is_gone(tmp_path: Path):
    configuration(tmp_path, TWO)
    ended = train(tmp_path, TWO, trap=Trap("a step begins", 6, KILL, rank=1))
    assert ended.codes == [2, -KILL]
    assert ended.seconds < 60
    assert "process 1 of the training (number " in ended.said
    assert f"what was saved last is whole: go on with --resume {tmp_path / 'run' / 'last.ckpt'}" in ended.said
    assert "Traceback" not in ended.said


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no other file system at hand")
def test_the_run_lies_on_another_file_system_than_temporary_files(whole, tmp_path: Path, tmp_path_factory):
    import shutil
    import tempfile

    output = Path(tempfile.mkdtemp(dir="/dev/shm")) / "run"
    try:
        traps = [Trap("a file is half written", 11, KILL)]
        assert try_out(tmp_path, whole(ALONE), ALONE, traps, output=output).faults == []
    finally:
        shutil.rmtree(output.parent)


def test_a_disk_that_fills(whole: Callable[[Setting], Path], tmp_path: Path):
    """The checkpoint that does not fit is given up, with a message; the one before is whole."""
    disk = tmp_path / "disk"
    configuration(tmp_path, ALONE)
    with small_disk(disk, kilobytes=4096) as resize:
        if resize is None:
            pytest.skip("a disk cannot be mounted here")
        assert train(tmp_path, ALONE, output=disk / "run", trap=Trap("an evaluation", 3, KILL)).codes == [-KILL]
        used = sum(path.stat().st_size for path in disk.rglob("*") if path.is_file())
        (disk / "other").write_bytes(b"x" * (4096 * 1024 - used - 40_000))
        ended = train(tmp_path, ALONE, output=disk / "run")
        assert ended.codes == [2], ended.said
        assert "No space left on device" in ended.said
        assert "Traceback" not in ended.said
        (disk / "other").unlink()
        assert not [path for path in (disk / "run").iterdir() if path.name.startswith(".")]
        assert train(tmp_path, ALONE, output=disk / "run").codes == [0]
        assert compare(whole(ALONE), disk / "run") == []


def test_a_slurm_job_whose_time_is_up_is_queued_again_and_goes_on(whole: Callable[[Setting], Path], tmp_path: Path):
    """Two tasks of srun; SIGUSR1 comes before the time limit; the next turn of the job takes the folder over."""
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    configuration(tmp_path, TWO)
    path = {"PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
    trap = Trap("a step begins", 6, int(signal.SIGUSR1), rank=None)
    ended = train(tmp_path, TWO, trap=trap, starter=as_srun, more=path)
    assert ended.codes == [130, 130], ended.said
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    assert "job 4711 is queued again" in ended.said
    ended = train(tmp_path, TWO, starter=as_srun, more={**path, "SLURM_RESTART_COUNT": 1})
    assert ended.codes == [0, 0], ended.said
    assert compare(whole(TWO), tmp_path / "run") == []
