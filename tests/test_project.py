"""The files of the project agree with one another."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import rankdet

ROOT = Path(__file__).parent.parent
SETTINGS = (ROOT / "pyproject.toml").read_text()
JOBS = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == rankdet.__version__
    assert f'license = "{citation["license"]}"' in SETTINGS


def test_one_job_needs_all_others():
    assert set(JOBS["all-passed"]["needs"]) == set(JOBS) - {"all-passed"}
    assert JOBS["all-passed"]["if"] == "always()", "it would be skipped, and so count as passed, when another job fails"


def test_jobs_run_what_the_makefile_has():
    commands = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    called = [command.removeprefix("make ") for command in commands if command.startswith("make ")]
    assert len(called) == len(JOBS) - 1
    assert set(called) <= set(targets)


def test_every_python_that_is_promised_is_tested():
    promised = re.findall(r"Python :: (3\.\d+)", SETTINGS)
    assert JOBS["newest"]["strategy"]["matrix"]["python"] == promised
    assert f'requires-python = ">={promised[0]}"' in SETTINGS
    lowest = [step.get("with", {}).get("python-version") for step in JOBS["lowest"]["steps"]]
    assert promised[0] in lowest


def test_every_dependency_has_a_lowest_version():
    """Else ``make test-lowest`` would test with the newest."""
    text = SETTINGS.partition("\ndependencies = [")[2].partition("\ntransformers = ")[0]
    dependencies = set(re.findall(r'^    "(.*)",$', text, re.M)) - {"rankdet[losses]"}
    assert len(dependencies) > 10
    for dependency in dependencies:
        assert re.fullmatch(r"[A-Za-z]+(\[\w+\])?>=[\d.]+", dependency)
