"""Check the built site: every public name is on it, and docstrings read as they are meant.

    python scripts/check_site.py site

Links are checked by ``zensical build --strict``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from reference import public_names

# What is left where Markdown took a docstring otherwise than its author meant it.
MISREAD = {
    "a quotation": re.compile(r"<blockquote"),
    "a link that is none": re.compile(r"\]\[rankdet"),
    "a doctest in running text": re.compile(r"<p>[^<]*&gt;&gt;&gt;"),
    "a role of Sphinx": re.compile(r":(?:class|func|meth|mod):"),
}


def faults(site: Path) -> Iterator[str]:
    """What is wrong with the pages of the reference."""
    pages = {file.parent.name: file.read_text(encoding="utf-8") for file in site.glob("reference/*/index.html")}
    for name in public_names():
        if f'id="{name.path}"' not in pages.get(name.package, ""):
            yield f"{name.path} is not on the page of {name.package}"
    for page, text in pages.items():
        for what, pattern in MISREAD.items():
            for found in pattern.finditer(text):
                near = re.findall(r'id="(rankdet[^"]*)"', text[: found.start()])[-1:]
                yield f"reference/{page}: {what}, near {''.join(near)}"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    print("\n".join(found) or "every public name is on the site")
    raise SystemExit(bool(found))
