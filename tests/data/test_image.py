from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import tv_tensors

from rankdet.data import CorruptImageError, read_image, read_upright
from rankdet.data.raster import Header, read_header, read_size
from tests.data.files import write_image

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def save(path, array, *, mode=None, **options):
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_rgb_pixels_are_those_of_the_file(tmp_path):
    path = write_image(tmp_path / "a.png", height=5, width=9)
    image = read_image(path, size=(5, 9))
    assert isinstance(image, tv_tensors.Image)
    assert image.dtype == torch.uint8
    assert image.is_contiguous()
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))
    assert read_size(path) == (5, 9)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGBA", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = read_image(save(tmp_path / "a.png", np.where(GREY > 99, 255, 0).astype(np.uint8), mode=mode))
    assert image.shape == (3, 6, 8)
    assert torch.equal(image[0], torch.from_numpy(np.where(GREY > 99, 255, 0).astype(np.uint8)))
    assert torch.equal(image[0], image[2])


def test_cmyk_becomes_rgb(tmp_path):
    image = read_image(save(tmp_path / "a.jpg", np.full((16, 16, 3), 255, np.uint8), mode="CMYK", quality=100))
    assert image.shape == (3, 16, 16)
    assert image.min() > 250


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_keep_their_upper_half(tmp_path, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", GREY.astype(np.uint16) * 256 + 17))
    assert torch.equal(image[1], torch.from_numpy(GREY))


def test_transparency_is_dropped(tmp_path):
    pixels = np.full((4, 4, 4), 200, np.uint8)
    pixels[..., 3] = 0
    assert (read_image(save(tmp_path / "a.png", pixels)) == 200).all()


def test_the_orientation_tag_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "a.jpg", np.zeros((10, 20, 3), np.uint8), exif=exif)
    assert read_image(path, size=(10, 20)).shape == (3, 10, 20)
    with pytest.raises(CorruptImageError, match=r"a\.jpg is 20 x 10 pixels, its annotation says 10 x 20; its EXIF tag"):
        read_image(path, size=(20, 10))


def test_another_size_than_annotated_is_an_error(tmp_path):
    with pytest.raises(CorruptImageError, match=r"a\.png is 64 x 48 pixels, its annotation says 64 x 40; correct"):
        read_image(write_image(tmp_path / "a.png"), size=(40, 64))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_truncated_files_are_named(tmp_path, suffix, share):
    path = write_image(tmp_path / f"a.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CorruptImageError, match=rf"a\.{suffix} cannot be read"):
        read_image(path)


def test_arbitrary_bytes_never_raise_anything_else(tmp_path):
    path = write_image(tmp_path / "a.png", height=16, width=16)
    content, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for _ in range(200):
        damaged = content.copy()
        for place in rng.integers(0, len(content), 4):
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        with suppress(CorruptImageError):
            assert read_image(path).shape[0] == 3


def test_missing_files_are_named(tmp_path):
    with pytest.raises(CorruptImageError, match=r"cannot be read: .*No such file"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(CorruptImageError, match="absent"):
        read_size(tmp_path / "absent.png")


@pytest.mark.parametrize(("suffix", "orientation"), [("jpg", 6), ("jpg", 3), ("png", 8), ("webp", 5)])
def test_headers_tell_size_and_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = save(tmp_path / f"a.{suffix}", np.zeros((10, 20, 3), np.uint8), exif=exif)
    header = read_header(path)
    assert header == Header((10, 20), orientation)
    assert header.turned_size == ((10, 20) if orientation == 3 else (20, 10))
    assert not header.upright


def test_a_tiff_is_turned_by_pillow(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = save(tmp_path / "a.tif", np.zeros((10, 20, 3), np.uint8), exif=exif)
    assert read_header(path) == Header((20, 10))
    assert read_image(path).shape == (3, 20, 10)


@pytest.mark.parametrize("orientation", [*range(1, 9), 77])
def test_upright_is_what_a_viewer_shows(tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    stored = np.random.default_rng(0).integers(0, 255, (5, 7, 3), np.uint8)
    path = save(tmp_path / "a.png", stored, exif=exif)
    with Image.open(path) as image:
        shown = np.asarray(ImageOps.exif_transpose(image))
    assert read_upright(path).permute(1, 2, 0).tolist() == shown.tolist()
    assert read_image(path).permute(1, 2, 0).tolist() == stored.tolist()


def test_upright_tells_what_cannot_be_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(CorruptImageError, match=r"a\.jpg cannot be read"):
        read_upright(tmp_path / "a.jpg")


def test_headers_without_orientation_or_with_a_senseless_one_are_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 77
    assert read_header(save(tmp_path / "a.jpg", np.zeros((10, 20, 3), np.uint8), exif=exif)).upright
    assert read_header(save(tmp_path / "b.jpg", np.zeros((10, 20, 3), np.uint8))) == Header((10, 20))


def test_the_header_of_a_png_is_read_without_its_pixels(tmp_path):
    path = write_image(tmp_path / "a.png", height=400, width=400)
    path.write_bytes(path.read_bytes()[:200])
    assert read_header(path) == Header((400, 400))
