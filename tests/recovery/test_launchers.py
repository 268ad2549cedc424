"""The ways to start several processes: Lightning's own, and torchrun. Each is asked to stop, and goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.recovery.harness import Setting, compare, configuration

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="compares with forked trainings")]

ROOT = Path(__file__).parent.parent.parent
TWO = Setting(processes=2)


def command(launcher: str) -> list[str]:
    if launcher == "lightning":
        return [sys.executable, "-u", "-m", "rankdet", "train"]
    return ["bash", str(ROOT / "examples" / "cluster" / "torchrun.sh")]


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_stops_when_asked_and_goes_on(whole: Callable[[Setting], Path], tmp_path: Path, launcher: str):
    configuration(tmp_path, TWO)
    given = [*command(launcher), "--config", "experiment.yaml", "--output", "run"]
    given += [] if launcher == "torchrun" else ["--resume", "auto"]
    binaries = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1", "PATH": binaries}
    environment |= {"DEVICES": "2", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        given, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as training:
        assert training.stdout is not None
        said = []
        for line in training.stdout:
            said.append(line)
            if line.startswith("epoch 1/3  step 2/"):
                training.send_signal(signal.SIGTERM)  # as a cluster does, to what it has started alone
        training.wait(60)
    assert "go on with --resume run/last.ckpt" in "".join(said), "".join(said)
    assert training.returncode == 130 if launcher == "lightning" else training.returncode != 0
    progress = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["rankdet_progress"]
    assert progress["batches_seen"] < 12, "it did not stop"
    done = subprocess.run(
        given, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert compare(whole(TWO), tmp_path / "run") == []
