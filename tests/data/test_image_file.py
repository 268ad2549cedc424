"""Image files of strangers: which formats are opened, and how large an image may be."""

from __future__ import annotations

import json
import os
import re
import subprocess
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rankdet.data import (
    CocoDetection,
    CorruptImageError,
    DatasetError,
    ImageTooLargeError,
    SkipCorrupt,
    read_image,
    read_upright,
)
from rankdet.data.image_file import FORMATS, SUFFIXES, is_image
from rankdet.data.pixel_limit import DEFAULT, VARIABLE
from rankdet.data.raster import read_header
from rankdet.doctor import Headers, Part, Pixels, Source, diagnose, write_repaired
from tests.data.files import coco, write_coco, write_image
from tests.data.test_image_depth import png16

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
FOREIGN = {
    "EPS": (EPS, "is an EPS or PostScript file"),
    "EPS of Windows": (b"\xc5\xd0\xd3\xc6" + bytes(60) + EPS, "is an EPS file"),
    "PDF": (b"%PDF-1.7\n", "is a PDF file"),
    "web page": (b"\r\n<!DOCTYPE html><html>not found</html>", "web page"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "AppleDouble": (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "is none, or is damaged"),
    "nothing": (b"", "is empty"),
    "one letter": (b"P", "is none, or is damaged"),
    "TGA": (bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 2, 0, 24, 0]) + bytes(12), "is none, or is damaged"),
}


@pytest.fixture
def no_program(monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **_: object):
        raise AssertionError(f"a program was started: {arguments}")

    for name in ("Popen", "run", "call", "check_call", "check_output"):
        monkeypatch.setattr(subprocess, name, refuse)
    monkeypatch.setattr(os, "system", refuse)


@pytest.mark.usefixtures("no_program")
@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("ending", ["jpg", "png", "eps"])
def test_other_formats_are_not_opened_whatever_they_are_called(tmp_path: Path, name: str, ending: str):
    content, words = FOREIGN[name]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    for read in (read_image, read_upright, read_header):
        with pytest.raises(
            CorruptImageError, match=rf"a\.{ending} cannot be read: it .*{words}.*accepted are JPEG, PNG"
        ):
            read(path)


@pytest.mark.parametrize("ending", sorted(SUFFIXES))
def test_every_ending_is_that_of_a_format_that_is_read(tmp_path: Path, ending: str):
    kind = Image.registered_extensions().get(ending)
    if kind is None or kind == "MPO":
        kind = "JPEG"
    assert kind == "AVIF" or kind in Image.SAVE
    assert kind in FORMATS
    if kind not in Image.SAVE:
        pytest.skip("this Pillow has no such format")
    path = tmp_path / f"a{ending.upper()}"
    Image.new("1" if ending == ".pbm" else "L" if ending == ".pgm" else "RGB", (40, 30), 1).save(path, format=kind)
    assert is_image(path.name)
    assert read_image(path).shape == (3, 30, 40)
    path.rename(tmp_path / "b.txt")
    assert read_image(tmp_path / "b.txt").shape == (3, 30, 40), "it is the content that counts"


def test_a_folder_and_a_missing_file_are_named(tmp_path: Path):
    (tmp_path / "a.jpg").mkdir()
    with pytest.raises(CorruptImageError, match=r"a\.jpg cannot be read: Is a directory"):
        read_image(tmp_path / "a.jpg")


def test_a_palette_with_transparency_is_read_without_a_word(tmp_path: Path):
    image = Image.new("P", (4, 4))
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(tmp_path / "a.png")[:, 0, 1].tolist() == [200, 100, 50]


# ------------------------------------------------------------------------------------------------------ how many pixels
@pytest.fixture
def bomb(tmp_path: Path) -> Path:
    """A PNG that says it has 13,000 x 13,000 pixels."""
    path = png16(tmp_path / "bomb.png", np.zeros((2, 2, 1), np.uint16))
    content = bytearray(path.read_bytes())
    content[16:24] = (13_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    path.write_bytes(content)
    return path


def test_too_many_pixels_are_not_decoded_and_the_message_says_how_they_are(bomb: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_header(bomb).size == (13_000, 13_000)
        for read in (read_image, read_upright):
            with pytest.raises(ImageTooLargeError) as error:
                read(bomb)
    said = str(error.value)
    assert "bomb.png is 13000 x 13000 pixels, 169 megapixels, and the limit is 120" in said
    assert "RANKDET_MAX_MEGAPIXELS=169" in said
    assert "attack" not in said
    assert "replace" not in said


@pytest.mark.parametrize(("limit", "fits"), [("0.003", False), ("0.00307", False), ("0.003072", True), ("", True)])
def test_the_limit_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, fits: bool):
    path = write_image(tmp_path / "a.png")  # 64 x 48
    monkeypatch.setenv("RANKDET_MAX_MEGAPIXELS", limit)
    if fits:
        assert read_image(path).shape == (3, 48, 64)
        return
    with pytest.raises(ImageTooLargeError, match=f"the limit is {limit}"):
        read_image(path)


def test_pillows_own_limit_does_not_stand_in_the_way(bomb: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setenv("RANKDET_MAX_MEGAPIXELS", "200")
    webp, tiff = bomb.with_suffix(".webp"), bomb.with_suffix(".tif")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**9)
    for path in (webp, tiff):
        Image.new("RGB", (100, 100)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for path in (webp, tiff):
        assert read_image(path).shape == (3, 100, 100)
    with pytest.raises(CorruptImageError, match="cannot be read"):
        read_image(bomb)


@pytest.mark.parametrize("text", ["many", "-1", "0", "inf", "nan"])
def test_a_limit_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str):
    monkeypatch.setenv("RANKDET_MAX_MEGAPIXELS", text)
    with pytest.raises(
        DatasetError, match=f"must be a number of megapixels above 0, such as 120, got '{text}'"
    ) as error:
        read_image(write_image(tmp_path / "a.png"))
    assert not isinstance(error.value, CorruptImageError), "no image is to blame"


@pytest.mark.parametrize("scan", [Headers(), Pixels()])
def test_the_doctor_says_so_and_a_repaired_copy_keeps_it(tmp_path: Path, bomb: Path, scan: object):
    file = write_coco(tmp_path / "data", coco())
    content = json.loads(file.read_text(encoding="utf-8"))
    content["images"][1] |= {"file_name": "bomb.png", "width": 13_000, "height": 13_000}
    file.write_text(json.dumps(content), encoding="utf-8")
    bomb.rename(file.parent / "bomb.png")
    train = diagnose(Source(str(file)), scan=scan).train
    findings = {finding.name: finding for finding in train.findings}
    assert "corrupt-image" not in findings
    found = findings["oversized-image"]
    assert found.repair is None
    assert found.examples == ("image 0 (bomb.png): 13000 x 13000",)
    assert "RANKDET_MAX_MEGAPIXELS=169" in found.remedy
    write_repaired([Part(train.table, train.findings)], tmp_path / "copy")
    assert (tmp_path / "copy" / "images" / "bomb.png").exists()
    images = json.loads((tmp_path / "copy" / "annotations.json").read_text(encoding="utf-8"))["images"]
    assert len(images) == 3
    assert len(SkipCorrupt(CocoDetection(file))) == 3


def test_the_documentation_says_what_is_read():
    text = (Path(__file__).parent.parent.parent / "docs" / "data.md").read_text(encoding="utf-8")
    listed = re.search(r"names end in `([^`]*)`", text)
    assert listed is not None
    assert set(listed[1].split()) == SUFFIXES
    assert f"more than {DEFAULT} megapixels are not decoded" in text
    assert f"{VARIABLE}=" in text
