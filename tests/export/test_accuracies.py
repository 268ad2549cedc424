"""AP of a detector and of its exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from rankdet import Predictor
from rankdet.cli import main
from rankdet.cli.errors import CommandError
from rankdet.cli.export_checks import compare_accuracies
from rankdet.cli.inference import Validation
from rankdet.data import KeepSize, Shapes
from rankdet.eval.inference import to_results
from rankdet.export import BOUNDS, About, ExportedDetector, ExportedGraph
from rankdet.export.writing import fitting
from rankdet.models import YOLACT, RetinaNet, yolact_criterion
from tests.export.test_export import lively

SIDE = 64
WIDE = (64, 96)
DATA = {"length": 3, "seed": 1, "image_size": SIDE, "num_classes": 3}


class Taught(Shapes):
    """Images whose objects are the best that a detector finds in them."""

    def __init__(self, predictor: Predictor, *, best: int = 10) -> None:
        super().__init__(**DATA, masks=predictor.model.needs_masks)
        self.predictor, self.best = predictor, best

    @torch.no_grad()
    def ground_truth(self) -> dict[str, Any]:
        entries = []
        for place, number in enumerate(self.image_ids):
            (found,) = self.predictor.detect([self[place][0]])
            found = {name: value[: self.best] for name, value in found.items()}
            entries += to_results(found, image_id=number, categories=self.categories)
        for number, entry in enumerate(entries, start=1):
            entry |= {"id": number, "iscrowd": 0, "area": entry["bbox"][2] * entry["bbox"][3]}
        return {**super().ground_truth(), "annotations": entries}


class Unwritten(ExportedDetector):
    """A file that is not written: its graph runs as it is, and then something is done to its outputs."""

    def __init__(self, predictor: Predictor, *, masks: str | None = None, shift: float = 0.0) -> None:
        nn.Module.__init__(self)
        graph, self.path = ExportedGraph(predictor.model), Path("a.onnx")
        resize = fitting(predictor.resize, WIDE).to_dict()
        self.about = About(WIDE, 1, predictor.categories.names, predictor.categories.ids, masks=masks, resize=resize)

        def run(pixels: Tensor) -> list[Tensor]:
            boxes, *others = graph(pixels)
            return [boxes + shift, *others]

        self._run = run


def predictor_of(recipe: type, **settings: object) -> Predictor:
    return Predictor(lively(recipe, **settings), categories=Shapes(**DATA).categories, resize=KeepSize())


@pytest.mark.parametrize(
    ("recipe", "settings", "masks"),
    [(RetinaNet, {}, None), (YOLACT, {"criterion": yolact_criterion()}, "of images")],
    ids=["boxes", "masks"],
)
def test_a_padded_file_has_the_ap_of_the_detector(recipe: type, settings: dict, masks: str | None):
    predictor = predictor_of(recipe, **settings)
    validation = Validation(val=Taught(predictor), workers=0, resize=KeepSize())
    found = compare_accuracies(validation, predictor, Unwritten(predictor, masks=masks))
    assert found.within(BOUNDS["32-true"]), found
    assert found.images == 3
    assert 0.1 < found.metrics["AP"][0] < 1, "the truth was found without padding"
    assert ("box_AP" in found.metrics) == (masks is not None)
    assert found.table().splitlines()[1].split()[:2] == ["detector", f"{found.metrics['AP'][0]:.4f}"]
    if masks is None:
        moved = compare_accuracies(validation, predictor, Unwritten(predictor, shift=3.0))
        assert not moved.within(BOUNDS["16-mixed"])
        assert moved.metrics["AP"][1] < moved.metrics["AP"][0]


def test_images_without_objects_are_refused():
    predictor = predictor_of(RetinaNet)
    validation = Validation(val=Taught(predictor, best=0), workers=0)
    with pytest.raises(CommandError, match="no object that counts"):
        compare_accuracies(validation, predictor, Unwritten(predictor))


@pytest.mark.long
def test_the_command_compares_by_ap(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    predictor_of(RetinaNet).save_pretrained(tmp_path / "model", data="none", licence="none")
    annotations = Shapes(**DATA).export(tmp_path / "data")
    arguments = ["--checkpoint", tmp_path / "model", "--size", "64x96", "--data.val", annotations, "--data.workers", 0]
    code = main(["export", *map(str, arguments), "--format", "torch", "--output", str(tmp_path / "a.pt2")])
    said = capsys.readouterr().out
    assert code == 0
    assert "on 3 images" in said
    assert "64 x 96" in said
