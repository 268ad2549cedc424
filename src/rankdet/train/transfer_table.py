"""The table of what became of tensors: parts that fared as one are one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TAKEN, FRESH, LEFT_OUT = "taken", "fresh", "left out"


def table(title: str, outcomes: Mapping[str, str], facts: Mapping[str, str]) -> str:
    """A title, facts that are not empty, and a line for each part of one outcome.

    >>> print(table("of a.ckpt", {"neck.a": "taken", "neck.b": "taken", "head.a": "taken", "head.b": "fresh"}, {}))
    of a.ckpt
      neck    2 tensors  taken
      head    1 tensor   taken
      head.b  1 tensor   fresh
    """
    lines = [*_taken(outcomes), *_others(outcomes)]
    names, counts = ([f"{name}" for name, _, _ in lines], [_counted(count) for _, count, _ in lines])
    wide, wider = max(map(len, names), default=0), max(map(len, counts), default=0)
    rows = [f"  {name:<{wide}}  {_counted(count):<{wider}}  {outcome}" for name, count, outcome in lines]
    said = [f"  {name:<{wide}}  {text}" for name, text in facts.items() if text]
    return "\n".join([title, *rows, *said])


def _taken(outcomes: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """What was taken as it is, by the outermost parts."""
    counts: dict[str, int] = {}
    for name, outcome in outcomes.items():
        if outcome == TAKEN:
            counts[name.split(".")[0]] = counts.get(name.split(".")[0], 0) + 1
    for part, count in counts.items():
        yield part, count, TAKEN


def _others(outcomes: Mapping[str, str], prefix: str = "") -> Iterator[tuple[str, int, str]]:
    """All else, by the largest parts whose tensors all fared as one."""
    parts: dict[str, dict[str, str]] = {}
    for name, outcome in outcomes.items():
        parts.setdefault(name[len(prefix) :].split(".")[0], {})[name] = outcome
    for part, within in parts.items():
        said = set(within.values())
        if said == {TAKEN}:
            continue
        if len(said) == 1:
            yield f"{prefix}{part}", len(within), said.pop()
        else:
            yield from _others(within, f"{prefix}{part}.")


def _counted(count: int) -> str:
    return f"{count} tensor{'s' if count > 1 else ''}"
