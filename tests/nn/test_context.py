"""Context blocks, attention and standardised weights: sizes, the identity at the start, and loops over cells."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from timm.layers import StdConv2d
from torch import nn

from rankdet.nn import AttentionBlocks, ContextBlocks, FrozenStatistics, TimmBackbone, WeightStandardisation
from rankdet.nn.context import ContextBlock, GeneralisedAttention
from rankdet.nn.standardised import StandardisedConv2d

ALONE = {"content": False, "relative": False, "position": False}


@pytest.mark.parametrize(
    ("modification", "added"),
    [
        (ContextBlocks(), 2_521_741),
        (ContextBlocks(ratio=1 / 4), 10_000_909),
        (AttentionBlocks(), 5_907_465),
        (AttentionBlocks(**ALONE), 3_545_097),
        (WeightStandardisation(), 0),
    ],
    ids=str,
)
def test_published_numbers_of_parameters(modification, added: int):
    with torch.device("meta"):
        plain, changed = (
            TimmBackbone("resnet50", norm=FrozenStatistics(), modifications=some) for some in ([], [modification])
        )
    assert sum(p.numel() for p in changed.parameters()) - sum(p.numel() for p in plain.parameters()) == added


@pytest.mark.parametrize("modification", [ContextBlocks(stages=(4,)), AttentionBlocks(stages=(4,), heads=4)], ids=str)
def test_a_network_starts_as_it_was(modification):
    torch.manual_seed(0)
    plain = TimmBackbone("test_resnet").eval()
    changed = TimmBackbone("test_resnet", modifications=[modification]).eval()
    lacking = changed.load_state_dict(plain.state_dict(), strict=False)
    assert lacking.missing_keys
    assert not lacking.unexpected_keys
    pixels = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(*pair) for pair in zip(plain(pixels), changed(pixels), strict=True))


def test_context_equals_its_formula():
    torch.manual_seed(0)
    block, maps = ContextBlock(32, ratio=1 / 4), torch.randn(2, 32, 3, 4)
    nn.init.normal_(block.widen.weight)
    nn.init.normal_(block.norm.weight)
    for image in range(2):
        scores = [block.attend(maps[image : image + 1])[0, 0, y, x] for y in range(3) for x in range(4)]
        weights = torch.stack(scores).softmax(0)
        cells = [maps[image, :, y, x] for y in range(3) for x in range(4)]
        context = sum(weight * cell for weight, cell in zip(weights, cells, strict=True))
        narrow = block.narrow.weight[:, :, 0, 0] @ context + block.narrow.bias
        narrow = (narrow - narrow.mean()) / (narrow.var(unbiased=False) + 1e-5).sqrt()
        narrow = (narrow * block.norm.weight[:, 0, 0] + block.norm.bias[:, 0, 0]).relu()
        added = block.widen.weight[:, :, 0, 0] @ narrow + block.widen.bias
        torch.testing.assert_close(block(maps)[image], maps[image] + added[:, None, None], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("terms", [{}, ALONE, {"salience": False, "position": False}, {"content": False}], ids=str)
def test_attention_equals_a_loop_over_cells_and_keys(terms):
    torch.manual_seed(0)
    block, maps = GeneralisedAttention(16, heads=2, **terms), torch.randn(1, 16, 3, 5)
    block.gamma.data.fill_(0.7)
    has = {"content": True, "relative": True, "salience": True, "position": True, **terms}
    keys = [(i, j) for i in range(0, 3, 2) for j in range(0, 5, 2)]

    def embedded(apart: int) -> torch.Tensor:
        waves = [apart / 1000 ** (4 / 16 * i) for i in range(4)]
        return torch.tensor([math.sin(w) for w in waves] + [math.cos(w) for w in waves])

    expected = torch.empty(1, 16, 3, 5)
    for y in range(3):
        for x in range(5):
            parts = []
            for head in range(2):
                rows, energies = slice(8 * head, 8 * head + 8), []
                for i, j in keys:
                    energy = torch.zeros(())
                    query = block.query.weight[rows] @ maps[0, :, y, x] if has["content"] or has["relative"] else 0
                    if has["content"] or has["salience"]:
                        key = block.key.weight[rows] @ maps[0, :, i, j]
                        energy = energy + (query @ key if has["content"] else 0)
                        energy = energy + (block.salience[head] @ key if has["salience"] else 0)
                    if has["relative"] or has["position"]:
                        place = block.across.weight[rows] @ embedded(x - j) + block.down.weight[rows] @ embedded(y - i)
                        place = place / math.sqrt(2)
                        energy = energy + (query @ place if has["relative"] else 0)
                        energy = energy + (block.position[head] @ place if has["position"] else 0)
                    energies.append(energy)
                weights = torch.stack(energies).softmax(0)
                values = [block.value.weight[rows] @ maps[0, :, i, j] for i, j in keys]
                parts.append(sum(weight * value for weight, value in zip(weights, values, strict=True)))
            out = block.project.weight[:, :, 0, 0] @ torch.cat(parts) + block.project.bias
            expected[0, :, y, x] = maps[0, :, y, x] + 0.7 * out
    torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-4)


def test_standardised_weights():
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1, stride=2)
    found, maps = StandardisedConv2d.of(conv), torch.rand(1, 4, 8, 8)
    weights = [(w - w.mean()) / (w.std() + 1e-5) for w in conv.weight]
    torch.testing.assert_close(found(maps), F.conv2d(maps, torch.stack(weights), conv.bias, stride=2, padding=1))
    assert found.weight is conv.weight
    biased = StdConv2d(4, 6, 3, padding=1, stride=2, bias=True)
    biased.load_state_dict(conv.state_dict())
    scale = math.sqrt((36 - 1) / 36)
    without = conv.bias[None, :, None, None]
    torch.testing.assert_close(found(maps) - without, (biased(maps) - without) * scale, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("modification", [ContextBlocks(), AttentionBlocks()], ids=str)
def test_networks_without_bottlenecks_are_refused(modification):
    with pytest.raises(ValueError, match="has no bottleneck blocks"):
        TimmBackbone("resnet18", modifications=[modification])
    with pytest.raises(ValueError, match="at least one of"):
        GeneralisedAttention(32, content=False, relative=False, salience=False, position=False)
