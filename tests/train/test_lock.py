"""One training at a time in a folder; owners that are gone hold nobody up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rankdet.train.errors import TrainingError
from rankdet.train.files import fresh_folder
from rankdet.train.folder import claimed_folder
from rankdet.train.lock import LOCK, FolderLock, Owner, process_began

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")


def lock_of(folder: Path, **changed: object) -> None:
    (folder / LOCK).write_text(json.dumps(asdict(replace(Owner(), **changed))))


def quick(folder: Path) -> FolderLock:
    return FolderLock(folder, beat=0.05, tell=lambda _: None)


def test_is_held_and_let_go(tmp_path: Path):
    lock = quick(tmp_path)
    lock.acquire()
    lock.confirm()
    with pytest.raises(ValueError, match=rf"another training is writing to the folder .* \(process {os.getpid()} on "):
        quick(tmp_path).acquire()
    lock.release()
    assert list(tmp_path.iterdir()) == []


@linux
def test_of_a_process_that_is_there(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        lock_of(tmp_path, process=other.pid, began=process_began(other.pid))
        with pytest.raises(ValueError, match=f"process {other.pid}"):
            quick(tmp_path).acquire()
        other.kill()
        other.wait()
        quick(tmp_path).acquire()


@linux
def test_of_an_earlier_process_of_the_same_number(tmp_path: Path):
    lock_of(tmp_path, began="1")
    quick(tmp_path).acquire()


def test_of_a_dead_process_on_another_host(tmp_path: Path):
    lock_of(tmp_path, host="elsewhere")
    said: list[str] = []
    FolderLock(tmp_path, beat=0.05, tell=said.append).acquire()
    assert "waiting for a sign of life" in said[0]


def test_of_a_living_process_on_another_host(tmp_path: Path):
    lock_of(tmp_path, host="elsewhere")
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.02):
            os.utime(tmp_path / LOCK)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        with pytest.raises(ValueError, match="on elsewhere"):
            quick(tmp_path).acquire()
    finally:
        over.set()
        thread.join()


def test_shows_signs_of_life(tmp_path: Path):
    lock = quick(tmp_path)
    lock.acquire()
    os.utime(tmp_path / LOCK, (1, 1))
    time.sleep(0.3)
    assert (tmp_path / LOCK).stat().st_mtime > 1
    lock.release()


def test_of_an_earlier_turn_of_the_same_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    lock_of(tmp_path, host="elsewhere", turn=1)
    said: list[str] = []
    FolderLock(tmp_path, beat=60, tell=said.append).acquire()
    assert not said, "nothing has to be waited for"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"host": 1}'])
def test_that_is_damaged_holds_nobody_up(tmp_path: Path, text: str):
    (tmp_path / LOCK).write_text(text)
    quick(tmp_path).acquire()


def test_that_another_has_taken_is_noticed(tmp_path: Path):
    lock = quick(tmp_path)
    lock.acquire()
    lock_of(tmp_path, host="elsewhere")
    with pytest.raises(TrainingError, match=r"process .* on elsewhere, .* has it; nothing was written"):
        lock.confirm()
    lock.release()
    assert (tmp_path / LOCK).exists(), "it is not ours to remove"


@pytest.mark.parametrize("stale", [False, True])
def test_is_given_to_one_of_many(tmp_path: Path, stale: bool):
    for turn in range(10):
        folder = tmp_path / str(turn)
        folder.mkdir()
        if stale:
            lock_of(folder, began="1")
        locks, taken = [quick(folder) for _ in range(8)], []
        start = threading.Barrier(len(locks))

        def take(lock: FolderLock, start=start, taken=taken) -> None:
            start.wait()
            try:
                lock.acquire()
                taken.append(lock)
            except ValueError:
                pass

        threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 1
        taken[0].release()


def test_new_folders_are_nobody_elses(tmp_path: Path):
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fresh_folder(tmp_path, "demo"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in found) == sorted(["demo", *(f"demo-{number}" for number in range(2, 9))])


class TestClaims:
    def test_leave_no_empty_folder(self, tmp_path: Path):
        with pytest.raises(RuntimeError, match="the settings"), claimed_folder(tmp_path / "new", name="", resume=None):
            raise RuntimeError("the settings are wrong")
        assert list(tmp_path.iterdir()) == []

    def test_remove_what_a_killed_process_left_half_written(self, tmp_path: Path):
        (tmp_path / ".last.ckpt.123.partial").write_text("half")
        with claimed_folder(tmp_path, name="", resume=None):
            pass
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("variables", [{"TORCHELASTIC_RUN_ID": "a"}, {"SLURM_PROCID": "0"}, {"NODE_RANK": "0"}])
    def test_of_processes_started_by_others_need_a_name(self, monkeypatch, variables: dict[str, str]):
        for name, value in {**variables, "WORLD_SIZE": "2"}.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(ValueError, match=r"must agree .* --output"), claimed_folder(None, name="x", resume=None):
            pass
