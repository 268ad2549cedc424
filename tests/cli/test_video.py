"""Videos: frames are read as they are needed, detected in like images, and written with their numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from rankdet import Predictor
from rankdet.cli.predict_inputs import find_inputs
from rankdet.data import CorruptImageError, KeepSize
from rankdet.data.video import read_frames
from rankdet.models import ATSS

FRAMES = 11


def pixels(number: int) -> np.ndarray:
    """A frame of OpenCV's, blue first."""
    frame = np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    frame[0, 0] = (3, 2, number)
    return frame


class Capture:
    """OpenCV's, of a video that is only pretended."""

    read_so_far = 0

    def __init__(self, path: str) -> None:
        self.last = 0 if "empty" in path else FRAMES
        Capture.read_so_far = 0

    def read(self):
        if Capture.read_so_far == self.last:
            return False, None
        Capture.read_so_far += 1
        return True, pixels(Capture.read_so_far)

    def release(self) -> None:
        pass


@pytest.fixture
def opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=Capture))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    (tmp_path / "clip.mp4").write_bytes(b"\0\0\0\x20ftypisom" + bytes(20))
    return tmp_path / "clip.mp4"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    Predictor(ATSS(num_classes=2, backbone="test_resnet", channels=16), resize=KeepSize()).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("opencv")
def test_frames_are_rgb_and_read_one_at_a_time(clip: Path):
    frames = read_frames(clip)
    first = next(frames)
    assert Capture.read_so_far == 1
    assert (first.shape, first.dtype, first[:, 0, 0].tolist()) == ((3, 48, 64), torch.uint8, [1, 2, 3])
    assert [int(frame[0, 0, 0]) for frame in frames] == list(range(2, FRAMES + 1))


def test_torchcodec_does_where_there_is_no_opencv(clip: Path, monkeypatch: pytest.MonkeyPatch):
    frames = [torch.full((3, 4, 6), number, dtype=torch.uint8) for number in range(3)]
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=lambda _: frames))
    assert [int(frame[0, 0, 0]) for frame in read_frames(clip)] == [0, 1, 2]

    def broken(path: str) -> None:
        raise ValueError("no stream\nsecond line")

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=broken))
    with pytest.raises(CorruptImageError, match=r"cannot be read as a video: no stream$"):
        list(read_frames(clip))


@pytest.mark.usefixtures("opencv")
def test_what_is_no_video_is_named(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "list.mp4").write_bytes(b"#EXTM3U http://somewhere")
    with pytest.raises(CorruptImageError, match=r"list.mp4 is no video by its content"):
        next(read_frames(tmp_path / "list.mp4"))
    with pytest.raises(CorruptImageError, match=r"cannot read .*absent.mp4"):
        next(read_frames(tmp_path / "absent.mp4"))
    with pytest.raises(CorruptImageError, match="no frame of it can be decoded"):
        next(read_frames(clip.rename(tmp_path / "empty.mp4")))
    monkeypatch.setenv("RANKDET_MAX_MEGAPIXELS", "0.001")
    with pytest.raises(CorruptImageError, match=r"the limit is 0.001"):
        next(read_frames((tmp_path / "empty.mp4").rename(clip)))


@pytest.mark.usefixtures("opencv")
def test_a_video_is_predicted_like_images(rankdet, clip: Path, saved: Path, tmp_path: Path):
    Image.fromarray(pixels(1)[..., ::-1]).save(tmp_path / "photo.png")
    given = ("--checkpoint", saved, "--threshold", "0.001", "--output", "out")
    done = rankdet("predict", "clip.mp4", "photo.png", *given)
    assert done.code == 0, done.err
    assert done.out.startswith(f"1 image and {FRAMES} frames, ")
    rows = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    places = {row["image_id"]: (row["file_name"], row.get("frame")) for row in rows}
    assert places == {n: ("clip.mp4", n) for n in range(1, FRAMES + 1)} | {FRAMES + 1: ("photo.png", None)}
    first, photo = ([(row["bbox"], row["score"]) for row in rows if row["image_id"] == n] for n in (1, FRAMES + 1))
    assert [row[0] for row in first] == [pytest.approx(row[0], abs=1e-3) for row in photo]
    pictures = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.jpg"))
    assert pictures == [*(f"clip.mp4/{n:06d}.jpg" for n in range(1, FRAMES + 1)), "photo.jpg"]


@pytest.mark.usefixtures("opencv")
def test_no_more_than_a_batch_of_frames_is_read(clip: Path, saved: Path):
    predictor = Predictor.load(saved, batch_size=2)
    found = predictor.stream(read_frames(clip), threshold=None)
    next(found)
    assert Capture.read_so_far == 2


def test_without_a_library_the_extra_is_named(rankdet, clip: Path, saved: Path, monkeypatch: pytest.MonkeyPatch):
    for library in ("cv2", "torchcodec", "torchcodec.decoders"):
        monkeypatch.setitem(sys.modules, library, None)
    done = rankdet("predict", "clip.mp4", "--checkpoint", saved, "--save", "none")
    assert done.code == 2
    assert 'pip install "rankdet[video]"' in done.err


def test_videos_in_folders_are_no_images(clip: Path):
    assert find_inputs([str(clip.parent)]).names == []
    assert find_inputs([str(clip)]).names == ["clip.mp4"]


def test_a_video_that_opencv_wrote(tmp_path: Path):
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(5):
        writer.write(np.full((48, 64, 3), (200, 20 * number, 0), dtype=np.uint8))
    writer.release()
    frames = list(read_frames(tmp_path / "a.avi"))
    assert [tuple(frame.shape) for frame in frames] == [(3, 48, 64)] * 5
    means = torch.stack([frame.float().mean((1, 2)) for frame in frames])
    torch.testing.assert_close(means, torch.tensor([[0.0, 20.0 * n, 200.0] for n in range(5)]), rtol=0, atol=12)


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_half_precision_is_near(rankdet, saved: Path, tmp_path: Path, precision: str):
    Image.fromarray(pixels(1)).save(tmp_path / "photo.png")
    scores = []
    for options in ((), ("--precision", precision)):
        given = ("--checkpoint", saved, "--threshold", "none", "--save", "results", "--output", "out", *options)
        done = rankdet("predict", "photo.png", *given)
        assert done.code == 0, done.err
        rows = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
        scores.append([row["score"] for row in rows][:20])
    assert scores[0] != scores[1]
    assert scores[0] == pytest.approx(scores[1], rel=0.1)
    assert not torch.is_autocast_enabled("cpu")
