"""How docstrings of rankdet become Markdown: an extension of griffe, which reads them for the site.

- A name in backticks becomes a link, if it is public or a member of the class that speaks.
- A doctest becomes a block of code, wherever it stands.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from reference import public_names

# `Name`, not ``Name``; its older form :class:`Name` as well.
_REFERENCE = re.compile(r"(?::\w+:)?(?<!`)`~?([A-Za-z_][\w.]*)`(?!`)")
# From ``>>>`` to the next empty line.
_DOCTEST = re.compile(r"^( *)>>> .*(?:\n *\S.*)*", re.M)
_EXAMPLE = re.compile(r"^( *)Example:$", re.M)
# ``argument: > 0``, whose description would be a quotation in Markdown.
_COMPARISON = re.compile(r"^( *[*\w]+: )>", re.M)


class Docstrings(griffe.Extension):
    """Rewrites every docstring of the package once all of it has been read."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Called with ``rankdet``."""
        links = Links(pkg)
        for item in _objects(pkg):
            if item.docstring:
                item.docstring.value = _rewritten(item.docstring.value, item, links)


@dataclass(frozen=True)
class Links:
    """What names in backticks stand for."""

    package: griffe.Module

    def target(self, name: str, speaker: griffe.Object) -> str | None:
        """The path that the site has the object by, None for what is not on it."""
        speaks = speaker if speaker.is_class else speaker.parent
        if speaks is not None and speaks.is_class and name in speaks.all_members:
            return self._member(speaks, name)
        floor = speaker.path.split(".")[1] if "." in speaker.path else ""
        head, _, member = name.rpartition(".")
        return self._public(name, floor) or (self._member_of_public(head, member, floor) if head else None)

    def _public(self, name: str, floor: str) -> str | None:
        """A public name; one that two packages have is meant in the package that speaks."""
        matches = {
            public.path: public.package == floor
            for public in public_names()
            if f".{public.path}".endswith(f".{name}") or name == ".".join(public.definition)
        }
        near = [path for path, is_near in matches.items() if is_near] or list(matches)
        return near[0] if len(near) == 1 else None

    def _member_of_public(self, head: str, member: str, floor: str) -> str | None:
        path = self._public(head, floor)
        holder = self.package[path.partition(".")[2]] if path else None
        if holder is None or not holder.is_class or member not in holder.all_members:
            return None
        return self._member(holder, member)

    def _member(self, holder: griffe.Object | griffe.Alias, name: str) -> str | None:
        """A documented member, by the path of the public class that defines it."""
        member = holder.all_members[name]
        defined_by = self._public(member.canonical_path.rpartition(".")[0], "")
        return f"{defined_by}.{name}" if defined_by and member.has_docstring and not name.startswith("_") else None


def _objects(item: griffe.Object) -> Iterator[griffe.Object]:
    yield item
    for child in item.members.values():
        if not child.is_alias:
            yield from _objects(child)


def _rewritten(text: str, speaker: griffe.Object, links: Links) -> str:
    parts, end = [], 0
    for doctest in _DOCTEST.finditer(text):
        parts += [_linked(text[end : doctest.start()], speaker, links), _fenced(doctest)]
        end = doctest.end()
    text = "".join([*parts, _linked(text[end:], speaker, links)])
    return _COMPARISON.sub(r"\1\>", _EXAMPLE.sub(r"\1Examples:", text))


def _fenced(doctest: re.Match[str]) -> str:
    return f"{doctest[1]}```pycon\n{doctest[0]}\n{doctest[1]}```"


def _linked(text: str, speaker: griffe.Object, links: Links) -> str:
    def link(reference: re.Match[str]) -> str:
        path = links.target(reference[1], speaker)
        return f"[`{reference[1]}`][{path}]" if path else f"`{reference[1]}`"

    return _REFERENCE.sub(link, text)
