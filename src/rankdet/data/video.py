"""Frames of video files, one at a time: by OpenCV, or by torchcodec where that is installed instead."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import torch
from torch import Tensor

from rankdet.data.errors import CorruptImageError
from rankdet.data.pixel_limit import check_pixels
from rankdet.extras import MissingLibraryError, install

SUFFIXES = frozenset(".mp4 .m4v .mov .avi .mkv .webm".split())
"""File name endings, in lower case, that are taken for videos."""


def is_video(name: str) -> bool:
    """Whether a file is taken for a video, by its ending.

    >>> is_video("a.MP4"), is_video("a.jpg")
    (True, False)
    """
    return PurePath(name).suffix.lower() in SUFFIXES


def read_frames(path: str | Path) -> Iterator[Tensor]:
    """The frames of a video as uint8 RGB tensors (3, H, W), in their order; one is in memory at a time.

    Raises:
        CorruptImageError: naming the file, if it is no video (MP4, MOV, AVI, MKV, WEBM by its content) or if none of
            it can be read, and `ImageTooLargeError` if a frame has more pixels than allowed.
        ImportError: naming the extra that brings what decodes videos.
    """
    path = Path(path)
    _check_content(path)
    count = 0
    for frame in _decoded(path):
        check_pixels(path, (int(frame.shape[-2]), int(frame.shape[-1])))
        yield frame
        count += 1
    if not count:
        raise CorruptImageError(f"{path} cannot be read as a video: no frame of it can be decoded")


def _decoded(path: Path) -> Iterator[Tensor]:
    if (cv2 := _module("cv2")) is not None:
        return _by_opencv(cv2, path)
    if (decoders := _module("torchcodec.decoders")) is not None:
        return _by_torchcodec(decoders, path)
    raise MissingLibraryError(f"{path} is a video, which needs another library: {install('video')}", name="cv2")


def _by_opencv(cv2: Any, path: Path) -> Iterator[Tensor]:
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            is_there, pixels = capture.read()
            if not is_there:
                return
            yield torch.from_numpy(pixels[..., ::-1].transpose(2, 0, 1).copy())  # blue comes first
    finally:
        capture.release()


def _by_torchcodec(decoders: Any, path: Path) -> Iterator[Tensor]:
    try:
        yield from decoders.VideoDecoder(str(path))
    except (ValueError, RuntimeError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CorruptImageError(f"{path} cannot be read as a video: {first_line}") from error


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError, OSError):  # torchcodec without the FFmpeg that it needs
        return None


def _check_content(path: Path) -> None:
    """`CorruptImageError` unless the file begins as one of the formats: others may name further files, or addresses."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError as error:
        raise CorruptImageError(f"cannot read {path}: {error.strerror or error}") from error
    is_quicktime = start[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
    is_avi = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    if not (is_quicktime or is_avi or start[:4] == b"\x1a\x45\xdf\xa3"):
        raise CorruptImageError(f"{path} is no video by its content; known are MP4, MOV, AVI, MKV and WEBM")
