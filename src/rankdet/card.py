"""The model card: what a folder or repository with a model says to people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_METRICS = ("AP", "AP50", "AP75", "oLRP", "box_AP", "box_oLRP")
_PARTS = ("backbone", "neck", "criterion")
_MOST_CLASSES = 100


def model_card(
    record: Mapping[str, Any], *, title: str, versions: Mapping[str, str], data: str = "", licence: str = ""
) -> str:
    """Markdown with the YAML header that the hub reads, from what a checkpoint says of itself.

    Args:
        record: with plan, classes, thresholds, resizing rule and metrics, as far as they are known.
        title: what the model is called.
        versions: of the libraries that wrote it.
        data: a sentence about the training data.
        licence: an identifier, as the hub knows them; by default that of the file it was converted from, if any.

    >>> card = model_card({"categories": {"names": ["cat"], "ids": [17]}}, title="cats", versions={"rankdet": "1.0"})
    >>> "| cat | 17 | – |" in card
    True
    """
    return (
        "\n".join([*_header(record, licence), "", f"# {_plain(title)}", "", *_body(record, data), *_use(versions)])
        + "\n"
    )


def _header(record: Mapping[str, Any], licence: str) -> Iterator[str]:
    origin = record.get("origin")
    stated = licence or (origin.get("licence", "") if isinstance(origin, Mapping) else "")
    masks = any(name.startswith("box_") for name in record.get("metrics") or {})
    yield from (
        "---",
        "library_name: rankdet",
        f"pipeline_tag: {'image-segmentation' if masks else 'object-detection'}",
    )
    if stated:
        yield f"license: {json.dumps(str(stated), ensure_ascii=False)}"
    yield "---"


def _body(record: Mapping[str, Any], data: str) -> Iterator[str]:
    yield from ("A detector of [rankdet](https://pypi.org/project/rankdet).", "")
    if plan := record.get("model"):
        yield f"- detector: {_said(plan)}"
        stated = plan.get("init_args") or {}
        yield from (f"- {name}: {_said(stated[name])}" for name in _PARTS if stated.get(name) is not None)
    if record.get("image_size"):
        yield f"- images are resized by: `{json.dumps(record['image_size'])}`"
    if record.get("calibration"):
        yield "- calibrated: 0.5 is the best threshold of every class"
    if origin := record.get("origin"):
        yield f"- converted from: `{json.dumps(origin, ensure_ascii=False)}`"
    if data:
        yield f"- data: {_plain(data)}"
    yield from _metrics(record.get("metrics") or {})
    yield from _classes(record.get("categories") or {"names": [], "ids": []}, record.get("thresholds") or {})


def _metrics(metrics: Mapping[str, float]) -> Iterator[str]:
    known = [(name, metrics[name]) for name in _METRICS if name in metrics]
    if known:
        yield from ("", "## Evaluation", "", "On the validation images of its training; lower is better for oLRP.", "")
        yield from ("| metric | value |", "|---|---:|", *(f"| {name} | {value:.4f} |" for name, value in known))


def _classes(categories: Mapping[str, Any], thresholds: Mapping[str, float]) -> Iterator[str]:
    pairs = list(zip(categories["names"], categories["ids"], strict=True))
    yield from ("", "## Classes", "")
    yield "The threshold is the score at which LRP was lowest; scores of a model trained by ranking are only ordered."
    yield from ("", "| class | id | threshold |", "|---|---:|---:|")
    for name, number in pairs[:_MOST_CLASSES]:
        score = thresholds.get(str(number))
        yield f"| {_plain(name)} | {number} | {'–' if score is None else f'{score:.4f}'} |"
    if len(pairs) > _MOST_CLASSES:
        yield f"\n{len(pairs) - _MOST_CLASSES} more classes are in `config.json`."


def _use(versions: Mapping[str, str]) -> Iterator[str]:
    yield from ("", "## Use", "", "```python", "from rankdet import Predictor", "")
    yield from (
        'predictor = Predictor.load("hf://owner/name")  # or this folder',
        'found = predictor("photo.jpg")',
        "```",
    )
    yield from ("", f"Written by {', '.join(f'{name} {version}' for name, version in versions.items())}.")


def _said(part: Any) -> str:
    """A part of a plan, by its class and the name that it has beside."""
    if not isinstance(part, Mapping):
        return f"`{part}`"
    name = (part.get("init_args") or {}).get("name")
    return f"`{part['class_path'].rpartition('.')[2]}`" + (f" `{name}`" if name else "")


def _plain(text: str) -> str:
    """A text of unknown origin in a line of Markdown, which it does not change."""
    one_line = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]<>#|" else letter for letter in one_line)
