"""Memory as it was promised, and the benchmark that measures it beside time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import groups
from benchmarks import losses as benchmark
from rankdet.losses import ALRPLoss, AveragePrecisionLoss, NDCGLoss, RankingLoss, RankSortLoss

EXACT = (RankSortLoss, AveragePrecisionLoss, ALRPLoss, NDCGLoss)


@pytest.mark.parametrize("cls", EXACT)
@pytest.mark.parametrize(
    ("positives", "number", "trained"), [(300, 320_000, True), (300, 320_000, False), (10_000, 1_000_000, False)]
)
def test_at_most_six_times_the_memory_of_the_logits(cls: type[RankingLoss], positives: int, number: int, trained: bool):
    problem = benchmark.simulate(positives, number, trained=trained, dtype=torch.float32, device="cpu")
    assert 1 <= benchmark.memory(benchmark.dense(cls()), problem) <= 6  # the gradient is 1


@pytest.mark.parametrize("cls", EXACT)
def test_no_table_of_pairs_for_many_positives(cls: type[RankingLoss]):
    positives = 5000
    problem = benchmark.simulate(positives, 20_000, trained=False, dtype=torch.float32, device="cpu")
    in_use = benchmark.memory(benchmark.dense(cls()), problem) * 20_000 * 4
    assert in_use < positives**2 * 8 / 4  # of float64


def test_the_benchmark_reports_what_it_measured(tmp_path: Path):
    output, plot = tmp_path / "losses", tmp_path / "time.svg"
    benchmark.main(["--largest", "2e4", "--seconds", "0", "--output", str(output), "--plot", str(plot)])
    data = json.loads(output.with_suffix(".json").read_text())
    assert {(r["positives"], r["logits"]) for r in data["results"]} == {(100, 20_000), (300, 20_000)}
    for result in data["results"]:
        assert 0.2 < result["methods"][benchmark.FOCAL]["ratio"] < 5
        assert set(result["methods"]) == set(benchmark.METHODS)
    page = output.with_suffix(".md").read_text()
    assert "Peak extra memory as a multiple of the logits" in page
    assert plot.read_text().startswith("<?xml")


def test_the_benchmark_of_groups_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "SIZES", ((8, 32, 2), (4, 20, 2)))
    threads = torch.get_num_threads()
    groups.main(["--seconds", "0", "--output", str(tmp_path / "groups.md")])
    torch.set_num_threads(threads)
    assert "| AP, all at once |" in (tmp_path / "groups.md").read_text()


def test_groups_are_compared_with_the_same_measure():
    logits, targets = groups.problem(6, 50, 4)
    named = groups.methods(6, 50, 4)
    torch.testing.assert_close(
        named["Rank & Sort, in groups"](logits, targets), named["Rank & Sort, a loop over the rows"](logits, targets)
    )
    plain = AveragePrecisionLoss(delta=0.5, interpolate=False, scope="group")
    expected = plain(logits, targets, group=torch.arange(6))
    torch.testing.assert_close(groups.from_pairs(logits, targets), expected)


def test_missed_goals_are_named():
    cells = {name: {"ratio": 0.5, "memory": 3.0} for name in benchmark.OURS}
    case = {"positives": 3, "logits": 9000, "state": "trained", "dtype": "float32", "methods": cells}
    assert benchmark.goals({"gpu": False, "results": [case]}) == "All goals are met."
    cells["AP"] = {"ratio": 1.5, "memory": 7.0}
    assert benchmark.goals({"gpu": False, "results": [case]}).splitlines()[2:] == [
        "- P = 3, N = 9,000, trained, float32: up to 1.50 x the time of focal loss (AP) where the goal is 1; "
        "1 of 5 miss it",
        "- P = 3, N = 9,000, trained, float32: up to 7.00 x the memory of the logits (AP) where the goal is 6; "
        "1 of 5 miss it",
    ]
