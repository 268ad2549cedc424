"""Class names on pictures: what can be read of them, in any script."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageFont, features

from rankdet.eval import lettering
from rankdet.eval.draw import _fitted, draw, side_by_side
from rankdet.eval.lettering import Lettering, letter, letter_all

EUROPEAN = ["Käfer größe", "œuf", "клетка", "κύτταρο", "ქართული", "հայ", "İğne", "żółw"]
LEFTWARD = ["خلية", "כלב"]
OTHERS = {"细胞": "XiBao", "さくら": "sakura", "사람": "SaLam", "कुत्ता": "kutta", "หมา": "hma", "🐕": ":dog2:"}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    caches = (letter_all, lettering.font_file, lettering._font_files)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])


def make_font(path: Path, letters: str) -> Path:
    """A font in which each letter is a bar of another height."""
    glyphs = {".notdef": TTGlyphPen(None).glyph()}
    for number, character in enumerate(letters, start=1):
        pen = TTGlyphPen(None)
        top = 100 + 700 * number // len(letters)
        pen.moveTo((100, 0))
        for corner in ((100, top), (500, top), (500, 0)):
            pen.lineTo(corner)
        pen.closePath()
        glyphs[f"u{ord(character):X}"] = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(character): f"u{ord(character):X}" for character in letters})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics({name: (600, 0) for name in glyphs})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupOS2()
    builder.setupPost()
    builder.setupNameTable({"familyName": path.stem, "styleName": "Regular"})
    builder.save(path)
    return path


def test_ascii_is_in_pillows_own_font():
    assert letter("white cell (2)", 0) == Lettering("white cell (2)")


@pytest.mark.usefixtures("no_fonts")
@pytest.mark.parametrize("name", EUROPEAN + LEFTWARD)
def test_scripts_that_matplotlibs_font_has(name: str):
    shown = letter(name, 0)
    if name in LEFTWARD and not features.check("raqm"):
        assert shown.transliterated
        return
    assert shown.text == name
    assert not shown.transliterated
    there = FT2Font(shown.file).get_charmap()
    assert all(ord(character) in there for character in name.replace(" ", ""))


@pytest.mark.usefixtures("no_fonts")
def test_without_a_font_names_are_transliterated_and_it_is_said_once(caplog: pytest.LogCaptureFixture):
    names = (*OTHERS, "cat")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            shown = letter_all(names)
    assert {name: lettering.text for name, lettering in zip(OTHERS, shown, strict=False)} == OTHERS
    (record,) = caplog.records
    assert "letters of 6 of 7 class names, such as 细胞: pictures show it as XiBao" in record.getMessage()


@pytest.mark.usefixtures("no_fonts")
def test_names_that_would_look_alike_are_told_apart():
    assert [shown.text for shown in letter_all(("细胞", "細胞", "a\nb", "a b", "c"))] == [
        *("XiBao (0)", "XiBao (1)", "a b (2)", "a b (3)", "c")
    ]


@pytest.mark.usefixtures("no_fonts")
def test_without_shaping_scripts_from_right_to_left_are_transliterated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(features, "check", lambda _: False)
    assert letter("כלב", 0) == Lettering("khlv", transliterated=True)


@pytest.mark.parametrize("name", ["", " ", "\n", "\x00\x07", "\u200b\ufe0f", "\ud83d", "\ue000"])
def test_a_name_of_nothing_is_its_number(name: str):
    assert letter(name, 3).text == "class 3"


def test_line_breaks_and_other_blanks_are_one_blank():
    assert letter(" red\r\nblood\t\u2028cell\u00a0\u200b", 0).text == "red blood cell"


def test_an_installed_font_is_found_that_has_all_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    half = make_font(tmp_path / "NotoSansHalf-Regular.ttf", "细")
    whole = make_font(tmp_path / "Whole.ttf", "细胞核")
    boxes = make_font(tmp_path / "LastResort.otf", "细胞核种")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    fonts = [str(tmp_path / "broken.ttf"), *map(str, (boxes, half, whole))]
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: fonts)
    assert [shown.file for shown in letter_all(("细", "细胞", "胞核"))] == [str(half), str(whole), str(whole)]
    assert letter("种", 0).transliterated, "a font of boxes is none"
    assert not caplog.records


def picture(*names: str) -> np.ndarray:
    objects = {
        "boxes": torch.tensor([[50.0, 100, 300, 200]]),
        "labels": torch.tensor([0]),
        "scores": torch.tensor([0.5]),
    }
    return np.asarray(draw(torch.zeros(3, 480, 480), objects, names=names))


def test_pictures_show_the_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    font = make_font(tmp_path / "Whole.ttf", "细胞核")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(font)])
    seen = [picture(name) for name in ("细胞", "胞细", "核细", "Käfer", "Kafer", "cell\nwall", "cell wall")]
    for place, one in enumerate(seen[:6]):
        assert not any(np.array_equal(one, other) for other in seen[place + 1 : 6])
    assert np.array_equal(seen[5], seen[6])
    titled = side_by_side(
        {"细胞": draw(torch.zeros(3, 480, 480), {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}, names=[])}
    )
    assert titled.width > 480


@pytest.mark.parametrize("size", [(480, 480), (30, 900), (900, 60)])
def test_a_name_that_is_too_long_is_cut_and_its_score_is_not(size: tuple[int, int]):
    one, other = (
        draw(
            torch.zeros(3, *size),
            {"boxes": torch.tensor([[2.0, 2, 28, 28]]), "labels": torch.zeros(1), "scores": torch.tensor([score])},
            names=["a very long name " * 20],
        )
        for score in (0.5, 0.9)
    )
    assert not np.array_equal(np.asarray(one), np.asarray(other))
    assert _fitted("a long name", lambda text: len(text) <= 8) == "a lon..."
    assert _fitted("name", lambda _: True) == "name"


def test_a_font_that_pillow_cannot_use_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bitmaps, outlines = (str(make_font(tmp_path / name, "细")) for name in ("a.ttf", "b.ttf"))
    load = ImageFont.truetype

    def truetype(file: str, size: int) -> object:
        if file == bitmaps:
            raise OSError("invalid pixel size")
        return load(file, size)

    monkeypatch.setattr(ImageFont, "truetype", truetype)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [bitmaps, outlines])
    assert letter("细", 0).file == outlines
