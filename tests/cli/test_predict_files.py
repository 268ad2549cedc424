"""What ``rankdet predict`` reads, what it calls it, and what it writes."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from rankdet.cli.errors import CommandError
from rankdet.cli.predict_inputs import find_inputs
from rankdet.cli.predict_outputs import PARTIAL, RESULTS, ResultsFile, image_ids, open_outputs, picture_names
from rankdet.data import Categories

PHOTOS = ("rgb.jpg", "a/rgb.jpg", "b/rgb.jpg", "b/c/2.PNG", "b/notes.txt", "b/raw.heic", "._rgb.jpg", ".cache/x.png")
IMAGES = ["a/rgb.jpg", "b/c/2.PNG", "b/rgb.jpg", "rgb.jpg"]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of these names in a folder of the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in PHOTOS:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(
    ("places", "names"),
    [
        (["photos"], IMAGES),
        (["photos/"], IMAGES),
        (["./photos/../photos"], IMAGES),
        (["photos/rgb.jpg"], ["rgb.jpg"]),
        (["photos/rgb.jpg", "photos/b/rgb.jpg"], ["rgb.jpg", "b/rgb.jpg"]),
        (["photos/a", "photos/b"], ["a/rgb.jpg", "b/c/2.PNG", "b/rgb.jpg"]),
        (["photos/b", "photos/a"], ["b/c/2.PNG", "b/rgb.jpg", "a/rgb.jpg"]),
        (["photos", "photos/a", "photos/rgb.jpg"], IMAGES),
        (["photos/**/*.jpg"], ["a/rgb.jpg", "b/rgb.jpg", "rgb.jpg"]),
        (["photos/**"], IMAGES),
        (["photos/*"], ["rgb.jpg", "a/rgb.jpg", "b/c/2.PNG", "b/rgb.jpg"]),
        (["photos/[ab]/*.jpg"], ["a/rgb.jpg", "b/rgb.jpg"]),
        (["photos/b/notes.txt"], ["notes.txt"]),
    ],
)
def test_places_and_the_names_of_what_is_there(places: list[str], names: list[str]):
    found = find_inputs(places)
    assert found.names == names
    assert [file.is_file() for file in found.files] == [True] * len(names)
    assert not found.problems


def test_what_is_not_there_costs_a_message_and_what_is_no_image_is_counted(photos: Path):
    found = find_inputs(["photos", "nowhere", "*.gif", "photos/b/*.txt"])
    assert found.names == IMAGES
    assert found.problems == [
        "there is no file or folder nowhere",
        "no image matches *.gif",
        "no image matches photos/b/*.txt",
    ]
    assert found.passed_over == {".txt": 2, ".heic": 1}
    assert "3 files that are no images by name (2 .txt, 1 .heic)" in list(found.told())[-1]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists(tmp_path: Path, encoding: str):
    (tmp_path / "photos" / "b" / "größe 1.jpg").write_bytes(b"")
    text = f"rgb.jpg\r\n\r\n  a\nphotos/b/größe 1.jpg\n{tmp_path}/photos/b/c/*\nabsent.jpg\n"
    (tmp_path / "photos" / "list.txt").write_bytes(text.encode(encoding))
    found = find_inputs([], lists=[Path("photos/list.txt")])
    assert found.names == ["rgb.jpg", "a/rgb.jpg", "b/größe 1.jpg", "b/c/2.PNG"]
    assert found.problems == ["there is no file or folder absent.jpg (in photos/list.txt)"]


def test_names_with_the_signs_of_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a[1]").mkdir()
    (tmp_path / "a[1]" / "x [2].jpg").write_bytes(b"")
    (tmp_path / "a[1]" / "list.txt").write_text("x [2].jpg\n*.jpg\n", encoding="utf-8")
    assert find_inputs(["a[1]"]).names == ["x [2].jpg"]
    assert find_inputs(["a[1]/x [2].jpg"]).names == ["x [2].jpg"]
    assert find_inputs([], lists=[Path("a[1]/list.txt")]).names == ["x [2].jpg"]


def test_the_output_is_passed_over_unless_it_is_what_was_named(photos: Path):
    (photos / "out").mkdir()
    (photos / "out" / "old.jpg").write_bytes(b"")
    assert find_inputs(["photos"], output=photos / "out").names == IMAGES
    assert find_inputs(["photos/*"], output=photos / "out").names == [IMAGES[-1], *IMAGES[:-1]]
    assert find_inputs(["photos/**"], output=photos / "out").names == IMAGES
    assert find_inputs(["photos"], output=photos.parent).names == [*IMAGES[:-1], "out/old.jpg", "rgb.jpg"]
    assert find_inputs(["photos/out"], output=photos / "out").names == ["old.jpg"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights elsewhere")
def test_links_to_folders_are_followed_and_circles_end(photos: Path, tmp_path: Path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.jpg").write_bytes(b"")
    (photos / "more").symlink_to(tmp_path / "more")
    (photos / "a" / "circle").symlink_to(photos)
    assert find_inputs(["photos"]).names == [*IMAGES[:3], "more/x.jpg", "rgb.jpg"]


@pytest.mark.parametrize(
    ("names", "pictures"),
    [
        (["rgb.jpg", "a/rgb.jpg"], ["rgb.jpg", "a/rgb.jpg"]),
        (["a.png", "a.tif"], ["a.png.jpg", "a.tif.jpg"]),
        (["A.png", "a.tif"], ["A.png.jpg", "a.tif.jpg"]),
        (["a.png", "a.jpg", "a.png.jpg"], ["a.png.jpg", "a.jpg.jpg", "a.png-2.jpg"]),
        (["a.png", "a.jpg/b.png"], ["a-2.jpg", "a.jpg/b.jpg"]),
        (["no ending", "two.dots.jpeg"], ["no ending.jpg", "two.dots.jpg"]),
    ],
)
def test_every_picture_has_a_name_of_its_own(names: list[str], pictures: list[str]):
    assert picture_names(names) == pictures
    assert len({name.casefold() for name in pictures}) == len(names)


def test_ids_are_numbers_where_all_names_are_and_differ():
    assert image_ids(["x/000000000139.jpg", "7.png"]) == [139, 7]
    assert image_ids(["a/1.jpg", "b/1.jpg"]) == [1, 2]
    assert image_ids(["1.jpg", "01.jpg"]) == [1, 2]
    assert image_ids(["a.jpg", "7.jpg"]) == [1, 2]
    assert image_ids([f"{10**30}.jpg"]) == [1]


def detection(count: int = 1) -> dict[str, torch.Tensor]:
    boxes = torch.tensor([[1.0, 2, 4, 8]]).repeat(count, 1)
    return {"boxes": boxes, "labels": torch.zeros(count).long(), "scores": torch.full((count,), 0.5)}


def test_results_that_were_stopped_are_kept_and_called_so(tmp_path: Path):
    (tmp_path / RESULTS).write_text("old", encoding="utf-8")

    def stopped() -> None:
        with ResultsFile(tmp_path, ["a", "b"], Categories.from_names(["cat"])) as file:
            file.add(0, torch.zeros(3, 8, 8), detection())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert (tmp_path / RESULTS).read_text(encoding="utf-8") == "old"
    assert [entry["file_name"] for entry in json.loads((tmp_path / PARTIAL).read_text(encoding="utf-8"))] == ["a"]
    assert {path.name for path in tmp_path.iterdir()} == {RESULTS, PARTIAL}


def test_no_results_are_a_list(tmp_path: Path):
    with ResultsFile(tmp_path, ["a"], Categories.from_names(["cat"])) as file:
        file.add(0, torch.zeros(3, 8, 8), detection(0))
    assert json.loads((tmp_path / RESULTS).read_text(encoding="utf-8")) == []


def test_results_are_not_kept_in_memory(tmp_path: Path):
    with ResultsFile(tmp_path, [f"{number}.jpg" for number in range(400)], Categories.from_names(["cat"])) as file:
        file.add(0, torch.zeros(3, 8, 8), detection(100))
        tracemalloc.start()
        for place in range(1, 400):
            file.add(place, torch.zeros(3, 8, 8), detection(100))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert len(json.loads((tmp_path / RESULTS).read_text(encoding="utf-8"))) == 40_000
    assert held < 1_000_000, f"{held} bytes for 40,000 results"


def test_a_picture_never_replaces_an_image(photos: Path):
    with pytest.raises(CommandError, match=r"would replace .*rgb\.jpg; name another folder"):
        open_outputs(photos, find_inputs(["photos"], output=photos), Categories.from_names(["cat"]), save="both")
    open_outputs(photos, find_inputs(["photos"], output=photos), Categories.from_names(["cat"]), save="results")
    open_outputs(photos, find_inputs(["photos/b/c"]), Categories.from_names(["cat"]), save="both")


class TestCommand:
    """The command as a whole."""

    @pytest.fixture
    def three(self, exported: Path, tmp_path: Path) -> Path:
        """The same image in three folders, under one name."""
        image = Image.open(exported / "images" / "000001.png")
        for folder in ("", "a", "b"):
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / "photos" / folder / "rgb.png")
        return tmp_path / "photos"

    @pytest.fixture
    def call(self, rankdet: Callable, trained: Path) -> Callable:
        def run(*arguments: object):
            return rankdet(
                "predict", "--checkpoint", trained / "best.ckpt", "--trust", "tests", "--threshold", "none", *arguments
            )

        return run

    def test_images_of_one_name_are_told_apart(self, call: Callable, three: Path, tmp_path: Path):
        assert call(three, "--output", "out").code == 0
        entries = json.loads((tmp_path / "out" / RESULTS).read_text(encoding="utf-8"))
        names = {entry["image_id"]: entry["file_name"] for entry in entries}
        assert names == {1: "a/rgb.png", 2: "b/rgb.png", 3: "rgb.png"}
        pictures = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg")}
        assert pictures == {"a/rgb.jpg", "b/rgb.jpg", "rgb.jpg"}

    @pytest.mark.parametrize(
        ("save", "there"), [("pictures", {"rgb.jpg"}), ("results", {RESULTS}), ("both", {"rgb.jpg", RESULTS})]
    )
    def test_what_is_saved(self, call: Callable, three: Path, tmp_path: Path, save: str, there: set[str]):
        outcome = call(three / "rgb.png", "--output", "out", "--save", save)
        assert outcome.code == 0
        assert {path.name for path in (tmp_path / "out").iterdir()} == there
        assert ("pictures are in out" in outcome.out, "results are in out" in outcome.out) == (
            save != "results",
            save != "pictures",
        )

    def test_nothing_is_saved(self, call: Callable, three: Path, tmp_path: Path):
        before = set(tmp_path.rglob("*"))
        assert "3 images, " in call(three, "--save", "none").out
        assert set(tmp_path.rglob("*")) == before

    def test_several_places_of_which_some_are_wrong(self, call: Callable, three: Path, tmp_path: Path):
        (three / "a" / "broken.jpg").write_bytes(b"no image")
        (three / "a" / "notes.txt").write_text("", encoding="utf-8")
        (tmp_path / "list.txt").write_text("photos/rgb.png\nphotos/absent.png\n", encoding="utf-8")
        outcome = call("photos/a", "nowhere.jpg", "photos/b/*.png", "--list", "list.txt", "--output", "out")
        assert outcome.code == 0, outcome.err
        for words in (
            "left out: there is no file or folder nowhere.jpg",
            "left out: there is no file or folder photos/absent.png (in list.txt)",
            "left out: 1 file that is no image by its name (1 .txt)",
            "broken.jpg cannot be read",
            "3 images, ",
            "1 file could not be read",
        ):
            assert words in outcome.out
        assert (
            len({entry["file_name"] for entry in json.loads((tmp_path / "out" / RESULTS).read_text(encoding="utf-8"))})
            == 3
        )

    def test_a_large_image_is_named_with_the_way_to_use_it(
        self, call: Callable, three: Path, monkeypatch: pytest.MonkeyPatch
    ):
        Image.new("RGB", (200, 100)).save(three / "large.png")
        monkeypatch.setenv("RANKDET_MAX_MEGAPIXELS", "0.01")
        said = call(three, "--output", "out").out
        assert "large.png is 200 x 100 pixels" in said
        assert "RANKDET_MAX_MEGAPIXELS" in said
        assert "3 images" in said
