"""The page is one file that nothing in the data can break out of."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from rankdet.report import read_problem, render, report_content
from tests.report.problems import NASTY, two_cats_and_a_dog


class Page(HTMLParser):
    """Elements with their attributes, and the texts of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._inside = tag == "script"

    def handle_data(self, data):
        if self._inside:
            self.scripts.append(data)
            self._inside = False


def nasty_page() -> str:
    truth, results = two_cats_and_a_dog()
    truth["categories"][0]["name"] = NASTY
    truth["images"][0]["file_name"] = NASTY
    return render(report_content(read_problem(truth, results), title=NASTY, facts={NASTY: NASTY}))


def test_names_cannot_become_elements():
    page = Page(nasty_page())
    assert "img" not in {tag for tag, _ in page.elements}
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert len(page.scripts) == 2
    assert json.loads(page.scripts[0])["classes"]["name"] == [NASTY.strip(), "dog"]


def test_the_policy_admits_the_one_script_and_no_connection():
    page = Page(nasty_page())
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(page.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy


def test_nothing_is_loaded():
    page = Page(nasty_page())
    assert {tag for tag, _ in page.elements} & {"link", "iframe", "object", "embed", "base", "img"} == set()
    for tag, attributes in page.elements:
        assert not attributes.get("src"), tag
        assert attributes.get("href", "#").startswith("#"), tag
    urls = set(re.findall(r"https?://[^\s\"']+", page.scripts[1]))
    assert urls == {"http://www.w3.org/2000/svg"}  # the name of SVG's elements
    for way_in in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "import("):
        assert way_in not in page.scripts[1]


def test_a_marker_in_the_data_stays():
    truth, results = two_cats_and_a_dog()
    page = Page(render(report_content(read_problem(truth, results), title="100 %%DATA%%")))
    assert json.loads(page.scripts[0])["title"] == "100 %%DATA%%"
