"""Files of unknown origin: what is read, and what is not."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rankdet.convert import ConversionError, read_source


class HistoryBuffer:
    """As MMEngine's in what matters: numbers of numpy in its state."""

    def __init__(self) -> None:
        self.history = np.arange(3.0)
        self.last = np.float64(2)


@pytest.fixture
def mmengine(monkeypatch: pytest.MonkeyPatch) -> type:
    for name in ("mmengine", "mmengine.logging", "mmengine.logging.history_buffer"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(HistoryBuffer, "__module__", "mmengine.logging.history_buffer")
    sys.modules["mmengine.logging.history_buffer"].HistoryBuffer = HistoryBuffer
    return HistoryBuffer


def test_the_log_of_mmengine_is_no_obstacle(mmengine: type, tmp_path: Path):
    meta = {"mmengine_version": "0.10", "dataset_meta": {"classes": ("cat", "dog")}}
    content = {"state_dict": {"a": torch.ones(2)}, "meta": meta, "message_hub": {"log_scalars": {"loss": mmengine()}}}
    torch.save(content, tmp_path / "a.pth")
    before = set(torch.serialization.get_safe_globals())
    source = read_source(tmp_path / "a.pth")
    assert (source.names, source.version, list(source.tensors)) == (["cat", "dog"], (3, 0), ["a"])
    assert set(torch.serialization.get_safe_globals()) == before, "other files may not name them"


class Harm:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harm-was-done",)


@pytest.mark.parametrize("ending", ["pth", "pkl"])
def test_no_code_is_run(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / f"a.{ending}"
    content = {"model": {"a": np.ones(2)}, "more": Harm()}
    if ending == "pkl":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file)
    with pytest.raises(ConversionError, match="mkdir"):
        read_source(file)
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_pickles_of_arrays(protocol: int, tmp_path: Path):
    content = {"model": {"a.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3)}, "__author__": "someone"}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    assert torch.equal(read_source(tmp_path / "a.pkl").tensors["a.weight"], torch.arange(6.0).view(2, 3))


def test_other_files_say_what_they_are(tmp_path: Path):
    with pytest.raises(ConversionError, match="there is no file"):
        read_source(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(ConversionError, match="cannot be read as a file of weights"):
        read_source(tmp_path / "text.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ConversionError, match="holds no tensors"):
        read_source(tmp_path / "empty.pth")
