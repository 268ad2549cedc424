"""Settings of the whole suite."""

from __future__ import annotations

import os

# Tests run side by side, one process per core: several threads in each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

torch.set_num_threads(1)
