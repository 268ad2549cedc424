"""Proposals from files: regions of each image that a detector should look at, best first."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import torch
from torchvision import tv_tensors

from rankdet.data.dataset import DetectionDataset, Sample
from rankdet.data.derived import DerivedDetection
from rankdet.data.errors import DatasetError
from rankdet.data.report import EXAMPLES
from rankdet.data.sharing import shares_arrays
from rankdet.garbage import without_garbage_collection
from rankdet.ops.part import Part


class ProposalFiles(Part):
    """Files of proposals, in COCO's results format, categories aside; ``rankdet proposals`` writes them.

    Args:
        train: file for the training images, each of which must have some.
        val: file for the validation images; nothing is detected in an image without any.
    """

    def __init__(self, *, train: str | None = None, val: str | None = None) -> None:
        self.train = train
        self.val = val


class _Entry(msgspec.Struct, gc=False):
    image_id: int
    bbox: tuple[float, float, float, float]
    score: float = 0.0


@shares_arrays
class StoredProposals:
    """The proposals in a file, by image id; entries are ``{"image_id", "bbox": [x, y, width, height], "score"}``.

    Those of an image are ordered by score, equal ones as in the file. Scores that are missing are 0.

    Raises:
        DatasetError: naming the file, when it cannot be read as such a list, or an entry, when its box is not one.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = str(file)
        with without_garbage_collection():
            ids, xywh, scores = _columns(self.file)
        order = np.lexsort((-scores, ids))
        self.ids, first = np.unique(ids[order], return_index=True)
        self.starts = np.append(first, len(order))
        xywh = xywh[order]
        self.boxes = np.concatenate((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), 1).astype(np.float32)

    def of(self, image_id: int) -> np.ndarray:
        """Boxes (R, 4) xyxy of an image, best first; none of an image that the file does not have."""
        place = int(np.searchsorted(self.ids, image_id))
        if place == len(self.ids) or self.ids[place] != image_id:
            return self.boxes[:0]
        return self.boxes[self.starts[place] : self.starts[place + 1]]


class WithProposals(DerivedDetection):
    """A dataset whose targets have ``proposals`` (R, 4) from a file; transforms move them as they move boxes.

    Args:
        dataset: the images.
        file: see `StoredProposals`.
        everywhere: refuse images without proposals: there is nothing to learn from them.

    Raises:
        DatasetError: as `StoredProposals`, or when images have no proposals: any ``everywhere``, else all of them.

    Example:
        >>> import json, tempfile
        >>> from rankdet.data import Shapes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "proposals.json"
        ...     _ = file.write_text(json.dumps([{"image_id": 1, "bbox": [1, 2, 30, 40], "score": 0.5}]))
        ...     dataset = WithProposals(Shapes(length=1, seed=0), file)
        >>> dataset[0][1]["proposals"].tolist()
        [[1.0, 2.0, 31.0, 42.0]]
    """

    def __init__(self, dataset: DetectionDataset, file: str | Path, *, everywhere: bool = False) -> None:
        super().__init__(dataset)
        self.stored = StoredProposals(file)
        ids = dataset.image_ids
        lacking = np.array(ids)[~np.isin(ids, self.stored.ids)]
        if (everywhere and len(lacking)) or len(lacking) == len(ids):
            names = ", ".join(map(str, lacking[:EXAMPLES])) + (", ..." if len(lacking) > EXAMPLES else "")
            raise DatasetError(
                f"{file} has no proposals for {len(lacking)} of the {len(ids)} images of {dataset.report.source} "
                f"(image {names}), so that nothing could be {'learned from' if everywhere else 'found in'} them; write "
                "proposals of all these images with rankdet proposals"
            )

    def __getitem__(self, index: int) -> Sample:
        image, target = self.dataset[index]
        boxes = torch.from_numpy(self.stored.of(target["image_id"]).copy())
        size = tuple(image.shape[-2:])
        proposals = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)  # type: ignore[call-arg]
        return image, {**target, "proposals": proposals}


def _columns(file: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image ids (R,), boxes (R, 4) xywh and scores (R,)."""
    try:
        entries = msgspec.json.decode(Path(file).read_bytes(), type=list[_Entry])
    except OSError as error:
        raise DatasetError(f"the proposals {file} cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise DatasetError(
            f"{file} is no file of proposals: {error}; accepted is a list of "
            '{"image_id": 7, "bbox": [x, y, width, height], "score": 0.5}, as rankdet proposals writes it'
        ) from error
    ids = np.array([entry.image_id for entry in entries], dtype=np.int64)
    boxes = np.array([entry.bbox for entry in entries], dtype=np.float64).reshape(-1, 4)
    scores = np.array([entry.score for entry in entries], dtype=np.float64)
    sound = np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 0).all(1) & np.isfinite(scores)
    if not sound.all():
        place = int(np.argmin(sound))
        raise DatasetError(
            f"{file}: entry {place} has the box {entries[place].bbox} and the score {entries[place].score}; accepted "
            "are x, y, width and height in pixels, none of the last two negative, and a finite score"
        )
    return ids, boxes, scores


def with_proposals(dataset: DetectionDataset, file: str | None, *, everywhere: bool = False) -> DetectionDataset:
    """The dataset itself, or one with the proposals of a file."""
    return dataset if file is None else WithProposals(dataset, file, everywhere=everywhere)
