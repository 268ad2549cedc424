"""Images of more than eight bits: what is seen of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdet.data import read_image, read_upright
from rankdet.data.depth import to_bytes

RAMP = np.linspace(0, 1, 48).reshape(6, 8)


def png16(path: Path, values: np.ndarray, *, orientation: int = 1) -> Path:
    """A PNG (H, W, C) of 16 bits a colour, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    exif = Image.Exif()
    exif[274] = orientation
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + (chunk(b"eXIf", exif.tobytes()[6:]) if orientation != 1 else b"")
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    return path


def tiff16(path: Path, values: np.ndarray, *, order: str, deflate: bool = False) -> Path:
    """A TIFF (H, W, 3) of 16 bits a colour in a byte order, '<' or '>'."""
    height, width, channels = values.shape
    pixels = values.astype(f"{order}u2").tobytes()
    pixels = zlib.compress(pixels) if deflate else pixels
    entries = [(256, width), (257, height), (259, 8 if deflate else 1), (262, 2), (273, 140), (277, channels)]
    entries += [(278, height), (279, len(pixels)), (284, 1)]
    fields = sorted([(258, 3, 3, 134), *((tag, 4, 1, value) for tag, value in entries)])
    content = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(
        f"{order}H", len(fields)
    )
    content += b"".join(struct.pack(f"{order}HHII", *field) for field in fields) + struct.pack(f"{order}I", 0)
    assert len(content) == 134
    path.write_bytes(content + struct.pack(f"{order}3H", 16, 16, 16) + pixels)
    return path


def grey(path: Path) -> np.ndarray:
    image = read_image(path).numpy()
    assert (image[0] == image[1]).all()
    assert (image[0] == image[2]).all()
    return image[0]


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_the_upper_eight_of_the_bits_in_use_are_kept(tmp_path: Path, bits: int, dtype: type):
    values = np.round(RAMP * (2**bits - 1)).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.tif")
    assert grey(tmp_path / "a.tif").tolist() == (values.astype(np.int64) >> (bits - 8)).tolist()
    if dtype == np.uint16:
        Image.fromarray(values).save(tmp_path / "a.png")
        assert grey(tmp_path / "a.png").tolist() == grey(tmp_path / "a.tif").tolist()


@pytest.mark.parametrize("white", [1.0, 1.004, 0.7])
def test_floating_point_values_up_to_one(tmp_path: Path, white: float):
    Image.fromarray((RAMP * white).astype(np.float32)).save(tmp_path / "a.tif")
    assert np.abs(grey(tmp_path / "a.tif") - (RAMP * white).clip(max=1) * 255).max() <= 0.5


@pytest.mark.parametrize(("least", "most"), [(-1024, 3071), (0, 10**6), (-1, 1), (-7, -5)])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_no_known_range_are_stretched(least: int, most: int, dtype: type):
    values = (least + np.round(RAMP * (most - least))).astype(dtype)
    found = to_bytes(values)
    assert (found.min(), found.max()) == (0, 255)
    order = np.argsort(values, axis=None, kind="stable")
    assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()


def test_what_is_not_finite_is_black_and_does_not_matter():
    values = RAMP.astype(np.float32)
    expected = to_bytes(values)
    values = values.copy()
    values[0, 1:4] = np.nan, np.inf, -np.inf
    expected[0, 1:4] = 0
    assert to_bytes(values).tolist() == expected.tolist()
    assert not to_bytes(np.full((2, 2), np.nan)).any()
    assert not to_bytes(np.full((2, 2), -3)).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_black_stays_black_and_nothing_is_nothing(dtype: type):
    assert not to_bytes(np.zeros((3, 4), dtype)).any()
    assert to_bytes(np.zeros((0, 4), dtype)).shape == (0, 4)


COLOUR = np.stack([RAMP, RAMP[::-1], RAMP**2], axis=-1)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    "kind", ["png", "png with alpha", "tiff", "tiff of a Mac", "deflated tiff", "deflated tiff of a Mac"]
)
def test_colours_of_sixteen_bits(tmp_path: Path, bits: int, kind: str):
    values = np.round(COLOUR * (2**bits - 1)).astype(np.uint16)
    if kind.startswith("png"):
        alpha = np.full((6, 8, 1 if "alpha" in kind else 0), 2**bits - 1, np.uint16)
        path = png16(tmp_path / "a.png", np.concatenate([values, alpha], axis=-1))
    else:
        path = tiff16(tmp_path / "a.tif", values, order=">" if "Mac" in kind else "<", deflate="deflated" in kind)
    assert read_image(path).permute(1, 2, 0).tolist() == (values >> (bits - 8)).tolist()


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_grey_of_ten_bits_in_compressed_files(tmp_path: Path, compression: str):
    values = np.round(RAMP * 1023).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    assert grey(tmp_path / "a.tif").tolist() == (values >> 2).tolist()


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_ten_bits_are_turned_as_eight(tmp_path: Path, orientation: int):
    values = np.round(COLOUR * 1023).astype(np.uint16)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray((values >> 2).astype(np.uint8)).save(tmp_path / "b.png", exif=exif)
    found = read_upright(png16(tmp_path / "a.png", values, orientation=orientation))
    assert found.tolist() == read_upright(tmp_path / "b.png").tolist()


def test_dark_pictures_of_eight_bits_stay_dark(tmp_path: Path):
    Image.fromarray((COLOUR * 3).astype(np.uint8)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").max() <= 3
