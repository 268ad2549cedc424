"""``rankdet show run``: a folder explains itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import rankdet as package


def test_a_finished_run(rankdet, trained: Path):
    said = rankdet("show", "run", trained).out
    for words in (
        r"state        finished; 1 of 1 epochs, step 2\n",
        r"model        TinyDetector\n",
        r"classes      3: circle, square, triangle\n",
        r"best         epoch 1: AP \d\.\d{3}, oLRP \d\.\d{3}\n",
        rf"to train on  rankdet train --resume {re.escape(str(trained / 'last.ckpt'))} --schedule.epochs 2\n",
        r"best.ckpt +\d+\.\d kB  the best epoch, for predict, eval and report\n",
        r"start 1: \d{4}-\d\d-\d\d .*, from step 0, finished ",
        r"command      rankdet\b",
        rf"rankdet      {package.__version__} \(",
        r"torch        \d",
        r"where        \S+: cpu \(\d+ of \d+ cores\), 1 process\n",
    ):
        assert re.search(words, said), words
    for path in trained.iterdir():
        assert re.search(rf"\n  {re.escape(path.name)} +\d+\.\d .B  \w", said), f"{path.name} is not explained"


def test_a_run_that_was_resumed_with_changes(rankdet, trained: Path, tmp_path: Path):
    shutil.copytree(trained, tmp_path / "run")
    assert (
        rankdet("train", "--resume", "run/last.ckpt", "--schedule.epochs", 2, "--optimiser.init_args.lr", 0.3).code == 0
    )
    said = rankdet("show", "run", "run").out
    assert "state        finished; 2 of 2 epochs, step 4" in said
    assert "start 2:" in said
    assert "changed      optimiser.init_args.lr 0.1 -> 0.3, schedule.epochs 1 -> 2" in said


@pytest.mark.parametrize(
    ("outcome", "words"),
    [("running", "broken off without a word; "), ("OSError: no", "OSError: no; "), (None, "not written")],
)
def test_a_run_that_ended_otherwise(rankdet, trained: Path, tmp_path: Path, outcome: str | None, words: str):
    shutil.copytree(trained, tmp_path / "run")
    content = json.loads((trained / "run.json").read_text())
    if outcome is None:
        (tmp_path / "run" / "run.json").unlink()
    else:
        content["sessions"][0]["outcome"] = outcome
        (tmp_path / "run" / "run.json").write_text(json.dumps(content))
    assert f"state        {words}" in rankdet("show", "run", "run").out


def test_a_run_that_is_going_on(rankdet, trained: Path, tmp_path: Path):
    from rankdet.train.lock import FolderLock

    shutil.copytree(trained, tmp_path / "run")
    lock = FolderLock(tmp_path / "run")
    lock.acquire()
    said = rankdet("show", "run", "run").out
    lock.release()
    assert re.search(r"state        held by process \d+ on \S+, since .*; last saved: 1 of 1 epochs, step 2", said)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [([], "name the folder of one run"), (["a", "b"], "name the folder of one run"), (["."], ". holds no run")],
)
def test_what_is_no_run(rankdet, arguments: list[str], words: str):
    outcome = rankdet("show", "run", *arguments)
    assert outcome.code == 2
    assert words in outcome.err
