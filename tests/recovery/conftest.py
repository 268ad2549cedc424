from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.recovery.harness import Setting, configuration, train


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Setting], Path]:
    """The folder of a training that nobody has interrupted."""

    @functools.cache
    def run(setting: Setting) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        configuration(folder, setting)
        ended = train(folder, setting)
        assert not any(ended.codes), ended.said
        return folder / "run"

    return run
