"""The pages on losses run, and so do the examples; each with as little work as shows that it learns."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentParser
from yaml import safe_load

from examples import extreme_imbalance, loss_pictures, own_ranking_losses, ranking_in_torchvision, yolo_style_head
from rankdet.criteria import RankingCriterion

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize(("page", "number"), [("losses.md", 5), ("your-own-loss.md", 2), ("only-the-losses.md", 1)])
def test_the_blocks_of_a_page_run(page: str, number: int):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    assert len(blocks) == number
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_examples_that_a_page_names_are_there():
    named = re.findall(r"examples/\w+\.py", (ROOT / "docs" / "only-the-losses.md").read_text())
    assert len(set(named)) == 3
    assert all((ROOT / name).is_file() for name in named)


def test_a_loss_of_ones_own_can_be_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (ROOT / "docs" / "your-own-loss.md").read_text()
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    monkeypatch.syspath_prepend(tmp_path)
    parser = ArgumentParser()
    parser.add_argument("--criterion", type=RankingCriterion)
    line = re.search(r"`ranking: ({class_path.*})`", page)[1]
    read = parser.parse_object(
        {"criterion": {"class_path": "RankingCriterion", "init_args": {"ranking": safe_load(line)}}}
    )
    loss = parser.instantiate(read).criterion.ranking
    assert type(loss).__name__ == "PrecisionAtKLoss"
    assert (loss.k, loss.delta) == (100, 0.5)


def test_the_picture_is_drawn(tmp_path: Path):
    loss_pictures.draw(tmp_path / "losses.svg")
    assert (tmp_path / "losses.svg").stat().st_size > 10_000
    terms = loss_pictures.terms()
    assert terms["RS, ranking"][0] == pytest.approx(0.226, abs=1e-3)  # as in the picture's titles
    assert terms["NDCG"][0] == pytest.approx(0.082, abs=1e-3)


@pytest.mark.parametrize(
    ("loss", "before", "after"),
    [
        (own_ranking_losses.PrecisionAtKLoss(k=20), 0.9, 0.01),
        (own_ranking_losses.KendallLoss(), 0.3, 0.15),
        (own_ranking_losses.QualityLoss(), 0.06, 0.005),
    ],
)
def test_own_losses_are_minimised(loss: torch.nn.Module, before: float, after: float):
    first, last = own_ranking_losses.descend(loss, steps=100, rate=5)
    assert first > before
    assert last < after


def test_precision_at_k_is_the_measure():
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(200, generator=generator), torch.zeros(200)
    targets[:30] = 1
    for k in (5, 30, 60):
        best = targets[logits.topk(k).indices].sum() / min(k, 30)
        assert own_ranking_losses.PrecisionAtKLoss(k=k, delta=0)(logits, targets).item() == pytest.approx(
            1 - best.item()
        )


def test_kendall_is_the_share_of_discordant_pairs():
    generator = torch.Generator().manual_seed(0)
    logits, quality = torch.randn(20, generator=generator), torch.rand(20, generator=generator) + 0.01
    pairs = torch.triu(torch.ones(20, 20), 1).bool()
    discordant = ((logits[:, None] - logits) * (quality[:, None] - quality) < 0) & pairs
    value = own_ranking_losses.KendallLoss(delta=0)(logits, quality / 2)
    assert value.item() == pytest.approx(discordant.sum().item() / 190)


def test_quality_loss_has_the_gradient_of_autograd():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(20, generator=generator, dtype=torch.float64, requires_grad=True)
    quality = torch.rand(20, generator=generator, dtype=torch.float64)
    loss = own_ranking_losses.QualityLoss()(logits, quality)
    expected = (logits.sigmoid() - quality).square().mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, logits), torch.autograd.grad(expected, logits))


def test_extreme_imbalance():
    """AP Loss finds the positives in a few steps, cross entropy not yet."""
    ranking = extreme_imbalance.train(extreme_imbalance.AveragePrecisionLoss(), steps=15, number=20_000)
    score = extreme_imbalance.train(torch.nn.BCEWithLogitsLoss(), steps=15, number=20_000)
    assert ranking > 10 * score


def test_yolo_style_head():
    accuracy, overlap = yolo_style_head.train(steps=60)
    assert accuracy > 0.9
    assert overlap > 0.4


def test_ranking_in_torchvision():
    history, _ = ranking_in_torchvision.train(steps=10, batch=2)
    assert history[-1] < 0.8 * history[0]
