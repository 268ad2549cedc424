"""Signals in loading processes: what to do about them is for the process that trains to say.

Ctrl-C and ``timeout`` reach a whole group of processes, and SLURM every process of a job, loading ones included. If
these ended, the training would see their end as an error in the middle of what it was asked to finish.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def obey_parent_alone(worker: int) -> None:  # noqa: ARG001
    """Leave the group, and heed no request to end but that of the process that made this one. For DataLoader.

    It ends its loading processes itself, and they end when they find it gone.
    """
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    if not hasattr(signal, "sigwaitinfo"):  # neither Windows nor macOS can tell who sent a signal
        return
    for number in (signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # from here on for all threads
    parent = multiprocessing.parent_process()  # which a server may have forked this one for
    threading.Thread(
        target=_heed, args=(parent.pid if parent else os.getppid(),), daemon=True, name="requests to end"
    ).start()


def _heed(parent: int | None) -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != parent:
        pass
    os._exit(0)
