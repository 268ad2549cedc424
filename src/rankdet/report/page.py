"""One HTML file from the content of a report: style, script and data inside, nothing from a network.

The data are JSON in which no character can end the script element, and the script puts texts into the page as texts
only. A content security policy admits this one script, and no connection of any kind.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from typing import Any

from rankdet import __version__

_SCRIPTS = (
    "dom.js",
    "charts.js",
    "state.js",
    "classes.js",
    "changes.js",
    "curves.js",
    "confusion.js",
    "images.js",
    "main.js",
)
_ESCAPES: dict[str, str | int | None] = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def render(content: dict[str, Any]) -> str:
    """The page of a content that `report_content` made.

    >>> page = render({"title": "</script><b>", "facts": {}})
    >>> "</script><b>" in page, page.count("</script>")
    (False, 2)
    """
    script = "(() => {\n" + '"use strict";\n' + "\n".join(map(_asset, _SCRIPTS)) + "\n})();"
    parts = {
        "TITLE": html.escape(str(content["title"])),
        "STYLE": _asset("page.css"),
        "SCRIPT_HASH": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        "DATA": _embedded(content),
        "SCRIPT": script,
        "VERSION": html.escape(__version__),
    }
    pieces = _asset("page.html").split("%%")  # text and names in turn, so that nothing inserted is looked into
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def _embedded(content: dict[str, Any]) -> str:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.translate(str.maketrans(_ESCAPES)).encode("utf-8", "replace").decode("utf-8")


def _asset(name: str) -> str:
    return files("rankdet.report").joinpath("assets", name).read_text(encoding="utf-8")
