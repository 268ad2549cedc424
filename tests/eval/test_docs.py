"""The examples of docs/evaluation.md run."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_examples_run():
    page = (Path(__file__).parent.parent.parent / "docs" / "evaluation.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/evaluation.md", "exec"), names)
