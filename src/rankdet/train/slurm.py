"""SLURM ends a job when its time is up; a job that is put into the queue again goes on later."""

from __future__ import annotations

import os
import subprocess


def requeue() -> str:
    """Put this job into the queue again, and say for people what came of it."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, timeout=60, check=False)
        problem = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    return f"job {job} could not be put into the queue again: {problem}" if problem else f"job {job} is queued again"
