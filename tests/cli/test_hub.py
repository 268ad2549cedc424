"""A model as a folder of safetensors and JSON, and on a hub that is only pretended."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rankdet import Predictor
from rankdet.card import model_card
from rankdet.data import Categories, KeepSize, Shapes
from rankdet.eval import ManyViews
from rankdet.models import ATSS, CheckpointError, PlanError, read_checkpoint
from rankdet.ops.checkpoint import KEY, PREFIX, read_summary

METRICS = {"AP": 0.25, "oLRP": 0.875, "APs": float("nan")}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return Predictor(
        ATSS(num_classes=3, backbone="test_resnet", channels=16),
        categories=Categories(names=("circle", "square", "triangle"), ids=(1, 2, 7)),
        resize=KeepSize(),
        thresholds={1: 0.01, 7: 0.02},
        record={"metrics": METRICS, "origin": {"tool": "torchvision", "file": "a.pth"}},
    )


@pytest.fixture(scope="module")
def saved(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model; not to be written to."""
    folder = tmp_path_factory.mktemp("saved") / "shapes-atss"
    predictor.save_pretrained(folder, data="Coloured shapes.", licence="apache-2.0")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of it to be broken."""
    return Path(shutil.copytree(saved, tmp_path / "broken"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A hub in a folder, in place of the client's."""
    import huggingface_hub

    asked: list[dict[str, Any]] = []

    def create_repo(repository: str, **options: Any) -> None:
        asked.append({"create": repository, **options})

    def create_branch(repository: str, **options: Any) -> None:
        asked.append({"branch of": repository, **options})

    def upload_folder(*, repo_id: str, folder_path: Path, **options: Any) -> None:
        asked.append({"upload": repo_id, **options})
        shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    def snapshot_download(repository: str, **options: Any) -> str:
        asked.append({"download": repository, **options})
        if not (tmp_path / "hub" / repository).is_dir():
            raise OSError(f"404 for {repository}\nfurther lines")
        return str(tmp_path / "hub" / repository)

    for function in (create_repo, create_branch, upload_folder, snapshot_download):
        monkeypatch.setattr(huggingface_hub, function.__name__, function)
    return SimpleNamespace(asked=asked, root=tmp_path / "hub")


def assert_equal(loaded: Predictor, predictor: Predictor) -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, expected = loaded(image), predictor(image)
    assert len(expected["boxes"]) > 0
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert found.names == expected.names
    assert (loaded.categories, loaded.thresholds, loaded.resize.to_dict()) == (
        predictor.categories,
        predictor.thresholds,
        predictor.resize.to_dict(),
    )


def test_a_folder_is_the_predictor(predictor: Predictor, saved: Path):
    assert sorted(file.name for file in saved.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    assert_equal(Predictor.load(saved), predictor)
    assert json.loads((saved / "config.json").read_text())["versions"].keys() > {"rankdet", "torch"}


def test_a_folder_reads_like_a_checkpoint(predictor: Predictor, saved: Path):
    content = read_checkpoint(saved)
    assert content["state_dict"].keys() == {PREFIX + name for name in predictor.model.state_dict()}
    assert content[KEY]["metrics"] == {"AP": 0.25, "oLRP": 0.875}  # JSON has no NaN
    assert content[KEY]["model"] == predictor.model.plan()
    assert read_summary(saved)[KEY] == content[KEY]


def test_the_card_says_what_is_known(saved: Path):
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert card.startswith('---\nlibrary_name: rankdet\npipeline_tag: object-detection\nlicense: "apache-2.0"\n---\n')
    for line in (
        "# shapes-atss",
        "- backbone: `TimmBackbone` `test_resnet`",
        "- data: Coloured shapes.",
        "| oLRP | 0.8750 |",
    ):
        assert line in card
    assert "| circle | 1 | 0.0100 |\n| square | 2 | – |\n| triangle | 7 | 0.0200 |" in card
    assert "nan" not in card


def test_names_of_classes_do_not_change_the_card():
    record = {"categories": {"names": ["a|b\n# <script>"], "ids": [1]}}
    assert "| a\\|b \\# \\<script\\> | 1 | – |" in model_card(record, title="x", versions={})


def test_a_model_goes_to_the_hub_and_comes_back(predictor: Predictor, hub: SimpleNamespace):
    place = predictor.push_to_hub("someone/shapes", revision="v1")
    assert place == "hf://someone/shapes@v1"
    assert_equal(Predictor.load(place), predictor)
    create, branch, upload, download = hub.asked
    assert branch == {"branch of": "someone/shapes", "branch": "v1", "exist_ok": True}
    assert create == {"create": "someone/shapes", "private": True, "exist_ok": True}
    assert (upload["upload"], upload["revision"]) == ("someone/shapes", "v1")
    assert (download["revision"], download["allow_patterns"]) == ("v1", ["config.json", "model.safetensors"])
    assert "# shapes\n" in (hub.root / "someone" / "shapes" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("hf://someone/absent", "hf://someone/absent cannot be downloaded: 404 for someone/absent"),
        ("hf://someone", "hf://someone is no place on the hub; give hf://owner/name"),
        ("hf://a/b/c", "hf://a/b/c is no place on the hub"),
    ],
)
def test_what_is_not_on_the_hub_is_named(hub: SimpleNamespace, place: str, words: str):
    with pytest.raises(CheckpointError) as caught:
        Predictor.load(place)
    assert words in str(caught.value)
    assert "further lines" not in str(caught.value)


def test_without_the_library_the_extra_is_named(predictor: Predictor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r'pip install "rankdet\[hub\]"'):
        Predictor.load("hf://someone/shapes")
    with pytest.raises(ImportError, match=r'pip install "rankdet\[hub\]"'):
        predictor.push_to_hub("someone/shapes")


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def truncate(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-8])


def pickled_instead(folder: Path) -> None:
    """A checksum that is right proves nothing."""
    import hashlib

    torch.save({}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    changed(folder, lambda config: config["weights"].update(sha256=digest))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (truncate, "its checksum is another one"),
        (pickled_instead, "cannot be read as safetensors"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[" * 100_000), "cannot be read as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "it has no entry 'rankdet'"),
        (lambda folder: changed(folder, lambda config: config.pop("weights")), "its checksum is another one"),
        (
            lambda folder: changed(folder, lambda config: config["rankdet"].update(thresholds={"1": "x"})),
            "not numbers by category id",
        ),
        (
            lambda folder: changed(folder, lambda config: config["rankdet"]["model"].update(class_path="os.system")),
            "outside the trusted packages",
        ),
        (
            lambda folder: changed(
                folder, lambda config: config["rankdet"]["model"]["init_args"].update(num_classes=4)
            ),
            "is a checkpoint of another model",
        ),
    ],
)
def test_folders_from_elsewhere_are_not_believed(folder: Path, spoil: Callable[[Path], object], words: str):
    spoil(folder)
    with pytest.raises((CheckpointError, PlanError)) as caught:
        Predictor.load(folder)
    assert words in str(caught.value)


def test_only_detectors_that_say_how_they_are_built_are_saved(predictor: Predictor, tmp_path: Path):
    with pytest.raises(ValueError, match="ManyViews does not say how it is built"):
        Predictor(ManyViews(predictor.model), categories=predictor.categories).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="before tiles or views"):
        predictor.tiled(size=64).save_pretrained(tmp_path)


def test_the_commands_take_it_like_a_checkpoint(rankdet, predictor: Predictor, saved: Path, hub, tmp_path: Path):
    predictor.push_to_hub("someone/shapes")
    Shapes(length=2, seed=1, image_size=64, num_classes=3).export(tmp_path / "data")
    given = ("--save", "results", "--output", "out")
    local = rankdet("predict", "data/images", "--checkpoint", saved, *given)
    assert local.code == 0, local.err
    expected = (tmp_path / "out" / "results.json").read_bytes()
    remote = rankdet("predict", "data/images", "--checkpoint", "hf://someone/shapes", *given)
    assert remote.code == 0, remote.err
    assert (tmp_path / "out" / "results.json").read_bytes() == expected
    data = ("--data.val", next((tmp_path / "data").glob("*.json")), "--data.workers", 0)
    for arguments in (("eval", "--device", "cpu,cpu"), ("calibrate", "--output", "calibrated.ckpt")):
        done = rankdet(*arguments, "--checkpoint", "hf://someone/shapes", *data)
        assert done.out.startswith("hf://someone/shapes: ATSS"), done.err
    page = rankdet("report", "hf://someone/shapes", *data)
    assert "The report is in shapes.html" in page.out, page.err
    resumed = rankdet("train", "--resume", saved)
    assert (resumed.code, f"--start-from {saved}" in resumed.err) == (2, True)
    absent = rankdet("predict", "data/images", "--checkpoint", "hf://someone/absent", *given)
    assert (absent.code, absent.err.count("\n")) == (2, 1)
