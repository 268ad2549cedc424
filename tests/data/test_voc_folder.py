"""VOC folders as they come from other machines: what training and the doctor see of them, which must be the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from rankdet.data import DatasetError, VOCDetection, open_dataset
from rankdet.data.encoding import decode_lines
from rankdet.doctor import Part, Source, diagnose, write_repaired
from tests.data.files import voc_xml, write_image

BOX = ("cup", (1, 1, 9, 9), 0)
AEROPLANE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def make(
    root: Path,
    *stems: str,
    folders: tuple[str, str, str] = ("Annotations", "JPEGImages", "ImageSets/Main"),
    ending: str = ".xml",
    image: str = ".png",
    split: bytes | None = None,
) -> Path:
    """A VOC dataset with an image for each of the annotation files, and perhaps a split called train."""
    annotations, images, sets = (root / folder for folder in folders)
    for folder in (annotations, images, sets):
        folder.mkdir(parents=True)
    for seed, stem in enumerate(stems):
        (annotations / f"{stem}{ending}").write_text(voc_xml(f"{stem}{image}", BOX), encoding="utf-8")
        write_image(images / f"{stem}{image}", seed=seed)
    if split is not None:
        (sets / "train.txt").write_bytes(split)
    return root


def seen(root: Path, split: str = "") -> list[str]:
    """The stems of the images that a training takes; the doctor must find the same, and nothing wrong."""
    dataset = open_dataset(f"{root}{split}")
    trained = [dataset.image_path(place) for place in range(len(dataset))]
    examined = diagnose(Source(f"{root}{split}"))
    assert examined.train.table is not None
    assert [examined.train.table.image_path(row) for row in range(len(dataset))] == trained
    assert examined.train.table.images.ids.tolist() == dataset.image_ids
    assert {finding.name for finding in examined.findings} <= {"rare-class", "unlisted-image", "few-objects"}
    for place in range(len(dataset)):
        assert len(dataset[place][1]["labels"]) == 1
    return [path.stem for path in trained]


BLANKS = ("IMG 000 (1)", "IMG 001 (1)", "IMG 002 (1)")
SPLITS = {
    "one name a line": (BLANKS, "\n".join(BLANKS)),
    "carriage returns, blank lines and no line end": (BLANKS, "\r\n\r\n".join(BLANKS)),
    "blanks around": (BLANKS, "".join(f"  {name}\t\n" for name in BLANKS)),
    "a class": (("a", "b", "c"), "a  1\nb -1\nc  0\n"),
    "a class, names with blanks": (
        BLANKS,
        "".join(f"{name} {flag:2}\n" for name, flag in zip(BLANKS, (1, -1, 0), strict=True)),
    ),
    "names that end like a class": (("x 1", "x 0", "x -1"), "x 1\nx 0\nx -1\n"),
    "endings of images": (BLANKS, "".join(f"{name}.png\n" for name in BLANKS)),
    "paths": (("a", "b.c"), "JPEGImages/a.png\n./Annotations/b.c.xml\n"),
    "paths of Windows": (BLANKS, "".join(f"D:\\voc\\JPEGImages\\{name}.JPG\n" for name in BLANKS)),
    "image and annotation": (("a", "b"), "JPEGImages/a.png Annotations/a.xml\nJPEGImages/b.png Annotations/b.xml\n"),
    "letters": (("größe 1", "細胞", "клетка"), "größe 1\n細胞\nклетка\n"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", SPLITS)
def test_lines_of_a_split(tmp_path: Path, name: str, encoding: str):
    stems, text = SPLITS[name]
    root = make(tmp_path / "voc", *stems, "another", split=text.encode(encoding))
    assert seen(root, ":train") == list(stems)


def test_a_class_is_told_from_a_name_by_all_lines(tmp_path: Path):
    root = make(tmp_path / "voc", "x", "x 1", "y", "y 1", split=b"x 1\ny 1\nx -1\n")
    assert seen(root, ":train") == ["x", "y"]


def test_split_names_in_bytes_that_are_no_text(tmp_path: Path):
    assert decode_lines("größe".encode("latin-1")) == ["gr\udcf6\udcdfe"]
    root = make(tmp_path / "voc", "a", split="a\ngröße\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="1 of the 2 annotation files of the split are not in"):
        VOCDetection(root, split="train")
    findings = {finding.name: finding for finding in diagnose(Source(f"{root}:train")).findings}
    assert findings["missing-annotation"].count == 1


@pytest.mark.parametrize("split", [b"", b"\n \r\n", "\ufeff".encode()])
def test_an_empty_split_is_an_error_everywhere(tmp_path: Path, split: bytes):
    root = make(tmp_path / "voc", "a", split=split)
    with pytest.raises(DatasetError, match="is empty"):
        VOCDetection(root, split="train")
    (finding,) = diagnose(Source(f"{root}:train")).findings
    assert "is empty" in finding.what


LAYOUTS = {
    "lower case": ("annotations", "jpegimages", "imagesets/main"),
    "upper case": ("ANNOTATIONS", "JPEGIMAGES", "IMAGESETS/MAIN"),
    "images": ("Annotations", "Images", "ImageSets"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", [".xml", ".XML", ".Xml"])
def test_capitals_of_folders_and_endings(tmp_path: Path, layout: str, ending: str):
    root = make(tmp_path / "voc", "a", "b", folders=LAYOUTS[layout], ending=ending, image=".PNG", split=b"b\n")
    assert seen(root) == ["a", "b"]
    assert seen(root, ":train") == ["b"]


def test_two_endings_of_one_name_are_refused(tmp_path: Path):
    root = make(tmp_path / "voc", "a")
    (root / "Annotations" / "a.XML").write_text(voc_xml("a.png", BOX), encoding="utf-8")
    if len(list((root / "Annotations").iterdir())) == 1:
        pytest.skip("capitals make no difference on this disk")
    with pytest.raises(DatasetError, match=r"has both a\.XML and a\.xml; keep one"):
        VOCDetection(root)
    assert "keep one" in diagnose(Source(str(root))).findings[0].what


def test_hidden_files_are_none(tmp_path: Path):
    root = make(tmp_path / "voc", "a", "b", split=b"a\nb\n")
    for name in ("Annotations/._a.xml", "Annotations/.DS_Store", "JPEGImages/._a.png", "JPEGImages/._b.png"):
        (root / name).write_bytes(AEROPLANE)
    (root / "ImageSets" / "Main" / "._train.txt").write_bytes(AEROPLANE)
    assert seen(root) == seen(root, ":train") == ["a", "b"]
    assert not [finding for finding in diagnose(Source(str(root))).findings if "._" in str(finding)]
    with pytest.raises(DatasetError, match=r"there are \['train'\]"):
        VOCDetection(root, split="test")


def test_names_composed_otherwise(tmp_path: Path):
    root = make(
        tmp_path / "voc", unicodedata.normalize("NFD", "Größe"), split=unicodedata.normalize("NFC", "Größe").encode()
    )
    (root / "JPEGImages" / unicodedata.normalize("NFD", "Größe.png")).rename(
        root / "JPEGImages" / unicodedata.normalize("NFC", "Größe.png")
    )
    assert len(seen(root, ":train")) == 1


STATED = {
    "nothing": "",
    "no ending": "a",
    "another ending": "a.jpeg",
    "a folder": "JPEGImages/a.png",
    "a folder of Windows": "C:\\data\\JPEGImages\\a.jpg",
    "a folder elsewhere": "/home/me/a.png",
    "a way out": "../../a.png",
    "another name": "IMG_0001.JPG",
}


@pytest.mark.parametrize("stated", STATED)
@pytest.mark.parametrize("there", ["a.png", "a.PNG", "a.jpg"])
def test_an_image_is_found_whatever_the_file_says(tmp_path: Path, stated: str, there: str):
    root = make(tmp_path / "voc")
    (root / "Annotations" / "a.xml").write_text(voc_xml(STATED[stated], BOX), encoding="utf-8")
    write_image(root / "JPEGImages" / there)
    assert seen(root) == ["a"]


@pytest.mark.parametrize("stated", ["photo.v2", "photo.v2.jpg", "x/photo.v2.JPEG", "PHOTO.V2.png"])
def test_an_image_by_what_the_file_says(tmp_path: Path, stated: str):
    root = make(tmp_path / "voc")
    (root / "Annotations" / "a.xml").write_text(voc_xml(stated, BOX), encoding="utf-8")
    write_image(root / "JPEGImages" / "photo.v2.png")
    assert seen(root) == ["photo.v2"]


def test_of_two_images_that_of_the_same_name_is_used_and_the_doctor_says_so(tmp_path: Path):
    root = make(tmp_path / "voc", "a", "b")
    (root / "Annotations" / "a.xml").write_text(voc_xml("b.png", BOX), encoding="utf-8")
    assert VOCDetection(root).image_path(0).name == "a.png"
    findings = {finding.name: finding for finding in diagnose(Source(str(root))).findings}
    assert findings["filename-of-another-image"].examples == ("a.xml names b.png",)


def test_of_two_endings_the_stated_one_is_used(tmp_path: Path):
    root = make(tmp_path / "voc", "a")
    write_image(root / "JPEGImages" / "a.jpg", seed=5)
    assert VOCDetection(root).image_path(0).name == "a.png"


def test_ids_are_the_numbers_of_the_files_where_all_have_one(tmp_path: Path):
    root = make(tmp_path / "voc", "000003", "000001", "000005", split=b"000005\n000001\n")
    dataset = VOCDetection(root)
    assert (dataset.image_ids, dataset.numbered) == ([1, 3, 5], True)
    assert VOCDetection(root, split="train").image_ids == [5, 1]
    assert VOCDetection(root, min_size=1, skip_empty=True).image_ids == [1, 3, 5]
    assert {entry["image_id"] for entry in dataset.ground_truth()["annotations"]} == {1, 3, 5}
    assert dataset[1][1]["image_id"] == 3
    assert dataset.ids_in_words() == "image ids are the numbers of its files; category ids are 1 cup"


@pytest.mark.parametrize("stems", [("a", "1"), ("2007_000027", "2007_000032"), ("1", "01"), ("٣",), ("9" * 25, "8")])
def test_ids_are_places_where_not(tmp_path: Path, stems: tuple[str, ...]):
    dataset = VOCDetection(make(tmp_path / "voc", *stems))
    assert (dataset.image_ids, dataset.numbered) == ([*range(1, len(stems) + 1)], False)
    assert f"image ids count its files: 1 is {sorted(stems)[0]}" in dataset.ids_in_words()


# ------------------------------------------------------------------------------------------------------------ encodings
DECLARED = {
    "gb2312": ("gb2312", "细胞"),
    "beyond gb2312": ("gb18030", "囍"),
    "utf-16": ("utf-16", "细胞"),
    "utf-16-be": ("utf-16-be", "细胞"),
    "iso-8859-1": ("latin-1", "Käfer"),
    "windows-1252": ("cp1252", "“Käfer”"),
    "Shift_JIS": ("cp932", "細胞①"),
    "EUC-KR": ("cp949", "세포"),
    "koi8-r": ("koi8-r", "клетка"),
    "utf-8": ("utf-8-sig", "Käfer"),
}


def declared(name: str, cup: str) -> str:
    return f'<?xml version="1.0" encoding="{name}"?>\r\n' + voc_xml("a.png", (cup, (1, 1, 9, 9), 0))


@pytest.mark.parametrize("name", DECLARED)
def test_the_declared_encoding(tmp_path: Path, name: str):
    encoding, cup = DECLARED[name]
    root = make(tmp_path / "voc", "a")
    said = "gb2312" if name == "beyond gb2312" else name
    (root / "Annotations" / "a.xml").write_bytes(declared(said, cup).encode(encoding))
    assert seen(root) == ["a"]
    assert VOCDetection(root).categories.names == (cup,)
    assert diagnose(Source(str(root))).train.table.classes.names == (cup,)


@pytest.mark.parametrize("said", ["utf-16", "UTF-16LE", "ansi", "rot13", "unicode_escape", "hex", "utf-8"])
def test_a_declaration_that_cannot_be_true_is_not_believed(tmp_path: Path, said: str):
    root = make(tmp_path / "voc", "a")
    (root / "Annotations" / "a.xml").write_text("\n " + declared(said, "cup"), encoding="utf-8")
    assert seen(root) == ["a"]
    assert VOCDetection(root).categories.names == ("cup",)


UNREADABLE = {
    "no declaration": voc_xml("a.png", ("细胞", (1, 1, 9, 9), 0)).encode("gbk"),
    "a false one": declared("utf-8", "Käfer").encode("cp1252"),
    "an unknown one": declared("ansi", "Käfer").encode("cp1252"),
    "another one": declared("ascii", "Käfer").encode("utf-8"),
    "half a pair": declared("utf-16", "Käfer").encode("utf-16") + b"<",
    "nothing": b"",
    "blanks": b" \r\n",
    "binary": AEROPLANE,
    "a page": b"<!DOCTYPE html><html></html>",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_is_named_and_the_others_are_examined(tmp_path: Path, name: str):
    root = make(tmp_path / "voc", "a", "b")
    (root / "Annotations" / "a.xml").write_bytes(UNREADABLE[name])
    with pytest.raises(DatasetError, match=r"a\.xml"):
        VOCDetection(root)
    examined = diagnose(Source(str(root)))
    findings = {finding.name: finding for finding in examined.findings}
    assert findings["unreadable-annotation"].count == 1
    assert "a.xml" in findings["unreadable-annotation"].examples[0]
    assert len(examined.train.table.images) == 1


def test_letters_that_nothing_depends_on_may_be_in_any_encoding(tmp_path: Path):
    root = make(tmp_path / "voc", "a")
    text = voc_xml("a.png", BOX).replace("<filename>", "<path>C:\\Jürgen\\a.png</path><filename>")
    (root / "Annotations" / "a.xml").write_bytes(text.encode("cp1252"))
    assert seen(root) == ["a"]


def test_several_unreadable_files_are_counted(tmp_path: Path):
    root = make(tmp_path / "voc", "a", "b", "c")
    for stem in "ab":
        (root / "Annotations" / f"{stem}.xml").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"a\.xml is empty; .*; 2 of the 3 files cannot be used\. `rankdet check"):
        VOCDetection(root)


def test_numbers_that_no_image_has_are_refused(tmp_path: Path):
    root = make(tmp_path / "voc", "a")
    (root / "Annotations" / "a.xml").write_text(voc_xml("a.png", ("cup", (1, 1, 1e308, 9), 0)), encoding="utf-8")
    with pytest.raises(DatasetError, match="must hold numbers"):
        VOCDetection(root)
    size = "<size><width>1e308</width><height>48</height></size>"
    (root / "Annotations" / "a.xml").write_text(voc_xml("a.png", BOX, size=size), encoding="utf-8")
    with pytest.raises(DatasetError, match="must hold numbers"):
        VOCDetection(root)
    assert np.isfinite(diagnose(Source(str(root))).train.table.images.sizes).all()


def test_a_folder_of_datasets_names_them(tmp_path: Path):
    make(tmp_path / "devkit" / "VOC2007", "a")
    with pytest.raises(DatasetError, match="but VOC2007: name the inner folder"):
        VOCDetection(tmp_path / "devkit")


def test_a_repaired_copy_has_the_same_images(tmp_path: Path):
    root = make(tmp_path / "voc", "a 1", "b", folders=LAYOUTS["lower case"], ending=".XML")
    text = declared("gb2312", "细胞").replace("a.png", "elsewhere\\b.jpg").replace("<xmax>9", "<xmax>1")
    (root / "annotations" / "b.XML").write_bytes(text.encode("gb2312"))
    train = diagnose(Source(str(root))).train
    write_repaired([Part(train.table, train.findings)], tmp_path / "copy")
    copy, original = VOCDetection(tmp_path / "copy"), VOCDetection(root)
    assert copy.categories.names == original.categories.names[:1] == ("cup",)
    assert [copy.image_path(place).resolve() for place in range(2)] == [original.image_path(i) for i in range(2)]
