"""Settings: frozen choices that a family of detectors makes differently by ranking and by scores."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

S = TypeVar("S")


def completed(stated: S, published: S) -> S:
    """Settings with everything that is None as published."""
    values: dict[str, Any] = {item.name: getattr(stated, item.name) for item in fields(stated)}  # type: ignore[arg-type]
    chosen = {name: value for name, value in values.items() if value is not None}
    return replace(published, **chosen)  # type: ignore[type-var]
