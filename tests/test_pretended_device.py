"""The tests of a device that is not there, in a process of their own (`tests.pretend_device`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.pretend_device import ALONE

ROOT = Path(__file__).parent.parent
FILES = ("ops/test_nms_and_priors.py", "models/test_host_waits.py", "assign/test_assigners.py", "assign/test_paa.py")
FILES += ("eval/test_download.py",)


@pytest.mark.skipif(
    not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch has no devices that are made in Python",
)
@pytest.mark.parametrize("which", ["not long", pytest.param("long", marks=pytest.mark.long)])
def test_on_a_pretended_device(which: str):
    options = ["-p", "no:xdist", "-p", "no:cacheprovider", "-rs", "-m", which, *(f"tests/{file}" for file in FILES)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=ROOT,
        env={**os.environ, ALONE: "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "process of its own" not in done.stdout, "nothing was run"
