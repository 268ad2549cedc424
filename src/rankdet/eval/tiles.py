"""Large images by overlapping tiles: each is looked at like an image of its own, and what was found put together.

A detector sees small objects of a large image at the scale that the tiles have, not at that of the whole image. An
inner edge of a tile cuts objects into pieces. A box within 1/64 of a tile from an inner edge therefore counts as a
piece, and goes if another tile has it whole: one that contains it and has no inner edge as near. So an object that is
smaller than the overlap by 1/32 of a tile is found once and whole; of a larger one the pieces remain, unless the whole
image is looked at too. At last all boxes of a class are suppressed together, as the detector does it within an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.eval.inference import Detection, Resize, detect
from rankdet.ops.nms import top_after_nms

_NEAR = 1 / 64
Place = tuple[int, int, int, int]
"""Left, top, right and bottom of a tile, in pixels of the image."""
_Piece = tuple[int, int, Tensor]
"""Left, top and content of the part of a mask that is not empty."""


class Tiles(nn.Module):
    """A detector that looks at each image tile by tile; it stands wherever the detector itself may, in evaluation.

    It takes images as they are: resizing is for the tiles, so that the rule is given here and not before. An image that
    is no larger than a tile goes through the detector as ever. `rankdet.Predictor.tiled` puts all this together.

    Args:
        model: of torchvision's calling convention.
        size: longest side of a tile, in pixels of the image.
        overlap: what neighbouring tiles share at least, as a part of `size`, from 0 to below 1.
        whole: whether the whole image is looked at too, for objects larger than the overlap.
        resize: the rule by which tiles are brought to the scale of the network; None for no change.
        nms_threshold: IoU above which the worse of two detections of a class goes; by default the detector's own.
        max_detections: per image, over all classes; by default the detector's own.
        batch_size: tiles that go through the model together.

    >>> class Everything(nn.Module):
    ...     num_classes = 1
    ...     def forward(self, images):
    ...         found = {"boxes": torch.tensor([[0., 0., 4., 4.]]), "labels": torch.zeros(1), "scores": torch.ones(1)}
    ...         return [dict(found) for _ in images]
    >>> Tiles(Everything().eval(), size=8, overlap=0.25)([torch.rand(3, 8, 20)])[0]["boxes"]
    tensor([[ 0.,  0.,  4.,  4.],
            [ 6.,  0., 10.,  4.],
            [12.,  0., 16.,  4.]])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        size: int,
        overlap: float,
        whole: bool = False,
        resize: Resize | None = None,
        nms_threshold: float | None = None,
        max_detections: int | None = None,
        batch_size: int = 8,
    ) -> None:
        super().__init__()
        _check(model, size=size, overlap=overlap, max_detections=max_detections, batch_size=batch_size)
        self.model = model
        self.size = size
        self.overlap = overlap
        self.whole = whole
        self.resize = resize
        self.nms_threshold = _own(model, "nms_threshold", 0.5) if nms_threshold is None else nms_threshold
        self.max_detections = _own(model, "max_detections", 100) if max_detections is None else max_detections
        self.batch_size = batch_size
        self.num_classes = getattr(model, "num_classes", None)
        self.train(model.training)

    def forward(self, images: Sequence[Tensor]) -> list[Detection]:
        """Images (3, H, W) -> detections in their pixels and on the CPU, best first."""
        if self.training:
            raise ValueError("Tiles are for evaluation; call eval() before, and train the detector itself")
        places = [self.places(*_size(image)) for image in images]
        queue = [(number, place) for number, of_image in enumerate(places) for place in of_image]
        found: list[list[Detection]] = [[] for _ in images]
        pieces: dict[int, list[_Piece]] = {}
        for start in range(0, len(queue), self.batch_size):
            batch = queue[start : start + self.batch_size]
            tiles = [images[number][:, top:bottom, left:right] for number, (left, top, right, bottom) in batch]
            for (number, place), detection in zip(batch, detect(self.model, tiles, resize=self.resize), strict=True):
                if len(places[number]) > 1 and "masks" in detection:
                    pieces.setdefault(number, []).extend(_piece(mask, place) for mask in detection.pop("masks"))
                found[number].append(detection)
        return [
            self._joined(_size(image), places[number], found[number], pieces.get(number))
            for number, image in enumerate(images)
        ]

    def places(self, height: int, width: int) -> list[Place]:
        """The tiles of an image, row by row: as few as possible, of one size and evenly spread; then the whole image.

        >>> Tiles(nn.Identity(), size=8, overlap=0.25).places(6, 20)
        [(0, 0, 8, 6), (6, 0, 14, 6), (12, 0, 20, 6)]
        """
        rows, columns = (_starts(side, self.size, self.overlap) for side in (height, width))
        tiles = [
            (left, top, min(left + self.size, width), min(top + self.size, height)) for top in rows for left in columns
        ]
        return [*tiles, (0, 0, width, height)] if self.whole and len(tiles) > 1 else tiles

    def _joined(
        self,
        size: tuple[int, int],
        places: Sequence[Place],
        found: Sequence[Detection],
        pieces: Sequence[_Piece] | None,
    ) -> Detection:
        """What was found in the tiles of an image of (height, width), once and in its pixels."""
        if len(places) == 1:
            return found[0]
        joined = {name: torch.cat([detection[name] for detection in found]) for name in found[0]}
        tile = torch.tensor([number for number, detection in enumerate(found) for _ in detection["boxes"]]).long()
        corners = torch.tensor(places).to(joined["boxes"].dtype)
        joined["boxes"] = joined["boxes"] + corners[tile, :2].repeat(1, 2)
        rows = (~_is_whole_elsewhere(joined["boxes"], tile, corners, size, self.size * _NEAR)).nonzero().squeeze(1)
        order = joined.get("logits", joined["scores"])
        best = top_after_nms(
            joined["boxes"][rows],
            order[rows],
            joined["labels"][rows].long(),
            threshold=self.nms_threshold,
            limit=self.max_detections,
        )
        kept = rows[best]
        chosen = {name: value[kept] for name, value in joined.items()}
        if pieces is not None:
            chosen["masks"] = _pasted([pieces[row] for row in kept.tolist()], size)
        return chosen


def _is_whole_elsewhere(boxes: Tensor, tile: Tensor, places: Tensor, size: tuple[int, int], near: float) -> Tensor:
    """Which of boxes (D, 4), seen in `tile` (D,) of places (T, 4), are cut there and whole in another tile, (D,)."""
    first, last = places[:, :2], places[:, 2:]
    lowest = torch.where(first > 0, first + near, -torch.inf)
    highest = torch.where(last < last.new_tensor([size[1], size[0]]), last - near, torch.inf)
    is_whole = ((boxes[:, None, :2] >= lowest) & (boxes[:, None, 2:] <= highest)).all(2)
    return ~is_whole.gather(1, tile[:, None]).squeeze(1) & is_whole.any(1)


def _starts(side: int, size: int, overlap: float) -> list[int]:
    """Where the fewest tiles begin that cover a side and share at least the overlap with their neighbours."""
    rest = max(0, side - size)
    step = max(1, int(size * (1 - overlap)))
    gaps = -(-rest // step)
    return [rest * number // gaps for number in range(gaps + 1)] if gaps else [0]


def _piece(mask: Tensor, place: Place) -> _Piece:
    """The part of a mask of a tile that is not empty, and where it begins in the image."""
    rows, columns = (mask.any(dim).nonzero()[:, 0].tolist() for dim in (1, 0))
    if not rows:
        return place[0], place[1], mask[:0, :0].clone()
    content = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return place[0] + columns[0], place[1] + rows[0], content.clone()  # not a view: the tile's masks shall go


def _pasted(pieces: Sequence[_Piece], size: tuple[int, int]) -> Tensor:
    """Masks (D, H, W) of the image."""
    masks = torch.zeros(len(pieces), *size, dtype=torch.bool)
    for mask, (left, top, content) in zip(masks, pieces, strict=True):
        mask[top : top + content.shape[0], left : left + content.shape[1]] = content
    return masks


def _own(model: nn.Module, name: str, otherwise: Any) -> Any:
    """What a detector does itself."""
    return getattr(getattr(model, "postprocess", model), name, otherwise)


def _size(image: Tensor) -> tuple[int, int]:
    return (int(image.shape[-2]), int(image.shape[-1]))


def _check(model: nn.Module, *, size: int, overlap: float, max_detections: int | None, batch_size: int) -> None:
    if getattr(model, "needs_proposals", False):
        raise ValueError(f"{type(model).__name__} is given its regions from outside, which tiles do not cut")
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap is a part of the tile, from 0 to below 1; got {overlap}")
    for name, value in (("size", size), ("max_detections", max_detections), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
