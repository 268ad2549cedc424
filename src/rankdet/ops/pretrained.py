"""A model as a folder without pickles, and as a repository of the Hugging Face hub with the same files.

`WEIGHTS` are safetensors by the names that they have in the model. `CONFIG` is JSON: what a checkpoint says of itself
beside its weights, the versions that wrote it, and a checksum of the weights, so that a file that was damaged, or that
belongs to another model, is not taken for this one's. `CARD` is for people.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rankdet.extras import needed_for
from rankdet.ops.checkpoint_error import CheckpointError
from rankdet.ops.writing import replacing

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
_MOST_BYTES = 64 << 20
_ON_HUB = re.compile(r"hf:/{1,2}(?P<repository>[^/@]+/[^/@]+)(@(?P<revision>.+))?")
"""With one slash too: a `Path` has no two."""


def is_pretrained(path: str | Path) -> bool:
    """Whether a path is a folder, or a place on the hub, and no file.

    >>> is_pretrained("hf://owner/name"), is_pretrained("best.ckpt")
    (True, False)
    """
    return _on_hub(path) or Path(path).is_dir()


def read_pretrained(path: str | Path, *, with_weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a model says of itself, and its weights (none unless they are wanted), from a folder or from the hub.

    Args:
        path: a folder, or ``hf://owner/name``, or ``hf://owner/name@revision``; that is downloaded unless it is there.
        with_weights: whether the weights are read.

    Raises:
        CheckpointError: a file is missing, damaged or not what it should be, or the hub does not give it.
    """
    folder = _downloaded(str(path)) if _on_hub(path) else Path(path)
    absent = [name for name in (CONFIG, WEIGHTS) if not (folder / name).is_file()]
    if absent:
        raise CheckpointError(
            f"{path} has no {absent[0]}; give a checkpoint, or a folder or repository that "
            "rankdet.Predictor.save_pretrained or push_to_hub wrote"
        )
    config = _read_config(folder / CONFIG)
    return config["rankdet"], _read_weights(folder / WEIGHTS, config) if with_weights else {}


def write_pretrained(
    folder: str | Path, record: Mapping[str, Any], weights: Mapping[str, Tensor], *, versions: Mapping[str, str]
) -> None:
    """Write `CONFIG` and `WEIGHTS` into a folder, which is made.

    Raises:
        CheckpointError: the record holds what JSON cannot say.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / WEIGHTS) as partial:
        save_file({name: value.detach().cpu().contiguous().clone() for name, value in weights.items()}, partial)
    config = {
        "library_name": "rankdet",
        "versions": dict(versions),
        "weights": {"file": WEIGHTS, "sha256": _checksum(folder / WEIGHTS)},
        "rankdet": record,
    }
    try:
        text = json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the model cannot be described in JSON: {error}") from error
    with replacing(folder / CONFIG) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def upload(write: Callable[[Path], None], repository: str, *, private: bool, revision: str | None) -> str:
    """Upload the folder that ``write`` fills to a repository of the hub, as the user who is logged in.

    Args:
        write: takes the folder, which is named after the repository and deleted afterwards.
        repository: ``owner/name``; it is made if it is not there.
        private: whether a repository that is made is seen by its owner alone.
        revision: the branch, which is made if it is not there; None for the main one.

    Returns:
        What `read_pretrained` takes.

    Raises:
        ImportError: naming the extra that brings the client of the hub.
    """
    client = _hub()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / repository.rpartition("/")[2]
        write(folder)
        client.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            client.create_branch(repository, branch=revision, exist_ok=True)
        client.upload_folder(
            repo_id=repository, folder_path=folder, revision=revision, commit_message="Model of rankdet"
        )
    return f"hf://{repository}" + (f"@{revision}" if revision else "")


def _hub() -> Any:
    """The client of the hub; ImportError naming the extra that brings it."""
    with needed_for("the Hugging Face hub"):
        import huggingface_hub
    return huggingface_hub


def _on_hub(path: str | Path) -> bool:
    return str(path).replace("\\", "/").startswith("hf:/")


def _downloaded(path: str) -> Path:
    """The folder in which the files of a repository are; other files are not downloaded."""
    place = _ON_HUB.fullmatch(path.replace("\\", "/"))
    if place is None:
        raise CheckpointError(f"{path} is no place on the hub; give hf://owner/name or hf://owner/name@revision")
    try:
        client = _hub()
    except ImportError as error:
        raise CheckpointError(f"{path}: {error}") from error
    try:
        found = client.snapshot_download(
            place["repository"],
            revision=place["revision"],
            allow_patterns=[CONFIG, WEIGHTS],
            library_name="rankdet",
        )
    except Exception as error:  # of the network, of the hub, of its cache
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path} cannot be downloaded: {said}") from error
    return Path(found)


def _read_config(path: Path) -> dict[str, Any]:
    """The content of `CONFIG`, whose entry ``rankdet`` is a mapping."""
    if path.stat().st_size > _MOST_BYTES:
        raise CheckpointError(f"{path} is larger than {_MOST_BYTES >> 20} MiB, which no description of a model is")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(config, dict) or not isinstance(config.get("rankdet"), dict):
        raise CheckpointError(f"{path} was not written by rankdet: it has no entry 'rankdet'")
    return config


def _read_weights(path: Path, config: Mapping[str, Any]) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    stated = config.get("weights")
    checksum = stated.get("sha256") if isinstance(stated, dict) else None
    if checksum != _checksum(path):
        raise CheckpointError(
            f"{path} is not the file that {CONFIG} beside it was written with: its checksum is another one; get both "
            "files again from where they come from"
        )
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def _checksum(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
