"""Networks: shapes, freezing, norm policies, anchors and pooling against worked numbers."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.ops import roi_align

from rankdet.nn import (
    FPN,
    AnchorGenerator,
    BatchStatistics,
    BoxHead,
    ConvLevelsOnInput,
    ConvLevelsOnOutput,
    DenseHead,
    FrozenStatistics,
    PoolLevel,
    Preprocess,
    RoIPooler,
    RPNHead,
    TimmBackbone,
    backbone_of,
    level_strides,
    octave_scales,
    pyramid_on,
)

CORNERS = [[-22.6274, -11.3137, 22.6274, 11.3137], [-16.0, -16, 16, 16], [-11.3137, -22.6274, 11.3137, 22.6274]]


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "mobilenetv3_small_100"])
def test_any_timm_pyramid_serves_as_backbone(name: str):
    backbone = TimmBackbone(name)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (1, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    assert not any(isinstance(m, nn.BatchNorm2d) for m in backbone.modules()), "from scratch: group norm"


def test_channels_last_transformers_are_turned():
    maps = TimmBackbone("swin_tiny_patch4_window7_224", norm=BatchStatistics())(torch.zeros(1, 3, 224, 224))
    assert [tuple(m.shape[1:]) for m in maps] == [(96, 56, 56), (192, 28, 28), (384, 14, 14), (768, 7, 7)]


@pytest.mark.parametrize(
    ("name", "channels", "strides"),
    [
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), (4, 8, 16, 32)),
        ("hrnet_w18_small", (16, 32, 64, 128), (4, 8, 16, 32)),
        ("vit_tiny_patch16_224", (192,), (16,)),
        ("vit_small_patch14_dinov2", (384,), (14,)),
    ],
)
def test_images_of_any_size_have_maps_of_their_size(name: str, channels, strides):
    """Windows, HRNet's exchange and position embeddings; the widths of HRNet are its own, not those of a classifier."""
    with torch.device("meta"):
        backbone = TimmBackbone(name, strides=strides)
        assert backbone.channels == channels
        for size in ((97, 131), (1, 33)):
            assert [tuple(level.shape[1:]) for level in backbone(torch.zeros(1, 3, *size))] == [
                (width, *(-(-side // stride) for side in size)) for width, stride in zip(channels, strides, strict=True)
            ]


def test_plain_transformers_have_a_pyramid_at_any_size():
    size = (97, 131)
    with torch.device("meta"):
        backbone = backbone_of("vit_small_patch14_dinov2")
        neck = pyramid_on(backbone, levels=4, channels=8, extra_levels=PoolLevel())(backbone.channels)
        levels = neck(backbone(torch.zeros(1, 3, *size)))
    strides = level_strides(backbone, finest=4, levels=5)
    assert strides == (3.5, 7, 14, 28, 56)
    cells = [-(-side // 14) for side in size]
    assert [tuple(level.shape[2:]) for level in levels[:3]] == [tuple(side * n for side in cells) for n in (4, 2, 1)]
    assert [tuple(level.shape[2:]) for level in levels[3:]] == [tuple(-(-side // n) for side in cells) for n in (2, 4)]


def test_a_network_of_one_image_size_is_refused():
    with pytest.raises(ValueError, match="takes images of one size alone"), torch.device("meta"):
        TimmBackbone("maxvit_tiny_tf_224")


@pytest.mark.parametrize(
    ("stages", "names"), [(0, ()), (1, ("conv1", "bn1", "layer1")), (2, ("conv1", "bn1", "layer1", "layer2"))]
)
def test_frozen_stages_of_a_resnet(stages: int, names: tuple[str, ...]):
    backbone = TimmBackbone("resnet18", frozen_stages=stages, norm=FrozenStatistics()).train()
    for name, parameter in backbone.network.named_parameters():
        assert parameter.requires_grad == (name.split(".")[0] not in names), name


@pytest.mark.parametrize(("stages", "learning"), [(0, 12), (5, 7), (12, 0)])
def test_frozen_blocks_of_a_plain_transformer(stages: int, learning: int):
    """The first go with what comes before them; what is frozen does not drop anything."""
    with torch.device("meta"):
        options = {"drop_path_rate": 0.1}
        backbone = TimmBackbone("vit_tiny_patch16_224", strides=(16,), frozen_stages=stages, options=options).train()
    network = backbone.network.model
    learns = [any(parameter.requires_grad for parameter in block.parameters()) for block in network.blocks]
    assert learns == [False] * stages + [True] * learning
    assert network.patch_embed.proj.weight.requires_grad == (stages == 0)
    assert [block.drop_path1.training for block in network.blocks[1:]] == learns[1:]


def test_a_plain_transformer_with_weights_learns_unless_told_otherwise(tmp_path):
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    backbone = TimmBackbone("test_vit", weights=tmp_path / "vit.pth", strides=(16,))
    assert all(parameter.requires_grad for parameter in backbone.parameters())


def test_frozen_statistics_stay_and_affine_learns():
    backbone = TimmBackbone("resnet18", frozen_stages=1, norm=FrozenStatistics()).train()
    before = {n: b.clone() for n, b in backbone.named_buffers()}
    sum(m.sum() for m in backbone(torch.rand(2, 3, 64, 64))).backward()
    assert all(torch.equal(before[n], b) for n, b in backbone.named_buffers())
    assert backbone.network.layer2[0].bn1.weight.grad is not None
    assert backbone.network.layer1[0].bn1.weight.grad is None


def test_batch_statistics_move():
    backbone = TimmBackbone("resnet18", norm=BatchStatistics()).train()
    backbone(torch.rand(2, 3, 64, 64))
    assert not torch.equal(backbone.network.bn1.running_mean, torch.zeros(64))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_from_a_local_file(tmp_path, suffix: str):
    source = timm.create_model("test_resnet")
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": source.state_dict()}, path)
    else:
        from safetensors.torch import save_file

        save_file(source.state_dict(), path)
    backbone = TimmBackbone("test_resnet", weights=path)
    for name, value in backbone.network.state_dict().items():
        torch.testing.assert_close(value, source.state_dict()[name])
    assert backbone.frozen_stages == 1
    assert isinstance(backbone.norm, FrozenStatistics)


def test_weights_of_something_else_are_refused(tmp_path):
    torch.save({"linear.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="holds no weights of 'test_resnet'"):
        TimmBackbone("test_resnet", weights=tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnt50"}, "did you mean resnet50"),
        ({"name": "resnet18.tv_in2k"}, "did you mean tv_in1k"),
        ({"name": "vit_tiny_patch16_224"}, r"strides \[16"),
        ({"name": "resnet18", "frozen_stages": 7}, r"0\.\.4"),
        ({"name": "hrnet_w18_small", "frozen_stages": 1}, "frozen_stages=0"),
    ],
)
def test_wrong_backbones_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmBackbone(**arguments)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch):
    create = timm.create_model

    def without_network(name: str, *, pretrained: bool = False, **options):
        if pretrained:
            raise ConnectionError("no\nroute")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", without_network)
    with pytest.raises(OSError, match=r"'a1_in1k' of backbone 'resnet18' cannot be downloaded: no route Name"):
        TimmBackbone("resnet18.a1_in1k")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AnchorGenerator(strides=(8,), scales=(0,)), r"scales of anchors are numbers above 0.*got \[0\]"),
        (lambda: AnchorGenerator(strides=(8,), scales=()), r"scales of anchors .* at least one; got \[\]"),
        (lambda: AnchorGenerator(strides=(8,), scales=(1,), ratios=(1, -1)), "ratios of anchors"),
        (lambda: FPN([8], channels=0), "channels of a pyramid must be at least 1, got 0"),
        (
            lambda: DenseHead(8, num_logits=1, anchors_per_cell=(1,), stacked=-1),
            "stacked.* at least 0, got -1",
        ),
    ],
)
def test_parts_that_would_be_nothing_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()


def test_fpn_adds_the_coarser_map_by_nearest_neighbours():
    neck = FPN([1, 1], channels=1)
    for conv in (*neck.laterals, *neck.outputs):
        nn.init.zeros_(conv.weight)
        conv.weight.data[..., conv.weight.shape[2] // 2, conv.weight.shape[3] // 2] = 1
    fine, coarse = torch.zeros(1, 1, 3, 3), torch.tensor([[[[1.0, 2], [3, 4]]]])
    assert neck([fine, coarse])[0][0, 0].tolist() == [[1, 1, 2], [1, 1, 2], [3, 3, 4]]


@pytest.mark.parametrize(
    ("extra", "first_in", "count"),
    [(PoolLevel(), None, 1), (ConvLevelsOnInput(2), 7, 2), (ConvLevelsOnOutput(2), 4, 2)],
)
def test_extra_levels(extra, first_in, count):
    neck = FPN([5, 7], channels=4, extra_levels=extra)
    levels = neck([torch.rand(1, 5, 10, 6), torch.rand(1, 7, 5, 3)])
    assert [tuple(m.shape[2:]) for m in levels] == [(10, 6), (5, 3), (3, 2), (2, 1)][: 2 + count]
    if first_in is None:
        assert torch.equal(levels[2], levels[1][:, :, ::2, ::2])
    else:
        assert neck.extra.convs[0].in_channels == first_in


def test_relu_between_extra_levels_only():
    plain, rectified = (FPN([3], channels=2, extra_levels=ConvLevelsOnOutput(2, relu_between=r)) for r in (False, True))
    rectified.load_state_dict(plain.state_dict())
    maps = [torch.randn(1, 3, 8, 8)]
    first, second = plain(maps), rectified(maps)
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[2], second[2])
    torch.testing.assert_close(second[2], plain.extra.convs[1](first[1].relu()))


def test_worked_anchors():
    anchors = AnchorGenerator(strides=(4,), scales=(8,), ratios=(0.5, 1, 2))
    torch.testing.assert_close(anchors.cell_anchors(0), torch.tensor(CORNERS), rtol=0, atol=1e-4)
    retina = AnchorGenerator(strides=(8,), scales=octave_scales(4, 3), ratios=(0.5, 1, 2)).cell_anchors(0)
    torch.testing.assert_close(retina[:3, 2], torch.tensor([22.6274, 28.5088, 35.9188]), rtol=0, atol=1e-3)


def test_cells_go_row_by_row_and_anchors_within():
    anchors = AnchorGenerator(strides=(4, 8), scales=(1, 2))
    priors = anchors(
        [torch.zeros(2, 1, 2, 3), torch.zeros(2, 1, 1, 2)], sizes=[(8, 12)] * 2, padded_sizes=[(8, 12)] * 2
    )
    boxes = priors.boxes[0]
    assert priors.level_sizes == (12, 4)
    assert priors.boxes[1] is boxes, "a shared grid is not repeated"
    assert boxes[:4].tolist() == [[-2, -2, 2, 2], [-4, -4, 4, 4], [2, -2, 6, 2], [0, -4, 8, 4]]
    assert boxes[6].tolist() == [-2, 2, 2, 6]
    middle = AnchorGenerator(strides=(8,), scales=(1,), centre_offset=0.5)
    assert middle([torch.zeros(1, 1, 1, 1)], sizes=[(8, 8)], padded_sizes=[(8, 8)]).boxes[0].tolist() == [[0, 0, 8, 8]]


def test_cells_in_the_padding_of_other_images_are_not_valid():
    anchors = AnchorGenerator(strides=(8,), scales=(1,))
    priors = anchors([torch.zeros(2, 1, 4, 4)], sizes=[(30, 30), (10, 20)], padded_sizes=[(32, 32), (16, 24)])
    assert priors.valid[0].all()
    assert priors.valid[1].view(4, 4).tolist() == [[True] * 3 + [False]] * 2 + [[False] * 4] * 2


def test_border_ignores_anchors_that_leave_the_image():
    anchors = AnchorGenerator(strides=(8,), scales=(1,), border=0)
    priors = anchors([torch.zeros(1, 1, 2, 2)], sizes=[(16, 16)], padded_sizes=[(16, 16)])
    assert priors.valid[0].tolist() == [False, False, False, True]


def test_wrong_number_of_levels():
    with pytest.raises(ValueError, match="2 levels"):
        AnchorGenerator(strides=(8, 16), scales=(1,))(
            [torch.zeros(1, 1, 2, 2)], sizes=[(16, 16)], padded_sizes=[(16, 16)]
        )


def test_head_outputs_are_ordered_like_anchors():
    """The channel of anchor a and class c at cell (y, x) of level l lands in the row of that anchor."""
    head = DenseHead(4, num_logits=3, anchors_per_cell=(2, 2), stacked=1, quality_channels=1).eval()
    maps = [torch.rand(1, 4, 3, 5), torch.rand(1, 4, 2, 2)]
    outputs = head(maps)
    assert outputs.logits.shape == (1, 3 * 5 * 2 + 2 * 2 * 2, 3)
    assert outputs.quality_logits.shape == (1, 38, 1)
    raw = head.classify(head.class_tower(maps[0]))
    row = (2 * 5 + 4) * 2 + 1
    torch.testing.assert_close(outputs.logits[0, row], raw[0, 3:6, 2, 4])
    assert RPNHead(4, anchors_per_cell=(2, 2))(maps).quality_logits.shape == (1, 38, 0)


def test_prior_probability_is_the_first_score():
    head = DenseHead(8, num_logits=3, anchors_per_cell=(1,), prior_probability=0.01)
    scores = head([torch.zeros(1, 8, 4, 4)]).logits.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01))


def test_levels_of_regions():
    def square(side: float) -> list[float]:
        return [0.0, 0.0, side, side]

    boxes = torch.tensor([square(112), square(111.9), square(224), [0, 0, 447, 448], square(448), [0, 0, 20, 2000]])
    assert RoIPooler(7, strides=(4, 8, 16, 32)).levels(boxes).tolist() == [1, 0, 2, 2, 3, 1]


def test_pooled_regions_keep_their_order():
    pooler = RoIPooler(3, strides=(4, 8), finest=8)
    maps = [torch.rand(2, 5, 16, 16), torch.rand(2, 5, 8, 8)]
    boxes = torch.tensor([[0.0, 0, 40, 40], [3.0, 2, 9, 9], [10.0, 10, 60, 50]])
    image = torch.tensor([1, 0, 0])
    pooled = pooler(maps, boxes, image)
    for row, level in enumerate(pooler.levels(boxes).tolist()):
        region = torch.cat((image[row : row + 1, None].float(), boxes[row : row + 1]), 1)
        expected = roi_align(maps[level], region, (3, 3), 1 / (4, 8)[level], 0, aligned=True)
        torch.testing.assert_close(pooled[row : row + 1], expected)
    assert pooler(maps, boxes[:0], image[:0]).shape == (0, 5, 3, 3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_regions_are_not_rounded_to_the_precision_of_the_maps(dtype: torch.dtype):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(2, 8, 100 // 2**level, 160 // 2**level, generator=generator).to(dtype) for level in range(2)]
    corners = torch.rand(40, 2, generator=generator) * torch.tensor([1100.0, 600.0])
    boxes = torch.cat((corners, corners + 20 + torch.rand(40, 2, generator=generator) * 150), 1)
    image_index = torch.arange(40) % 2
    pooler = RoIPooler(7, strides=(8, 16))
    with torch.autocast("cpu", dtype=dtype):
        pooled = pooler(maps, boxes, image_index)
    exact = pooler([level.double() for level in maps], boxes.double(), image_index)
    torch.testing.assert_close(pooled.double(), exact, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)


def test_box_head_shapes():
    logits, deltas = BoxHead(4, pool_size=2, num_logits=6, box_outputs=5, width=8)(torch.rand(3, 4, 2, 2))
    assert (logits.shape, deltas.shape) == ((3, 6), (3, 20))


def test_images_may_be_stacked():
    images = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0))
    stacked, listed = Preprocess()(images), Preprocess()(list(images))
    assert torch.equal(stacked.pixels, listed.pixels)
    assert stacked.sizes == listed.sizes
    with pytest.raises(ValueError, match="the list of images is empty"):
        Preprocess()(images[:0])


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ("a.jpg", TypeError, r"images\[0\] is a str; a model takes tensors \(3, H, W\)"),
        (np.zeros((3, 8, 8)), TypeError, r"images\[0\] is a ndarray; .*rankdet\.Predictor also files, arrays"),
        (torch.full((3, 8, 8), 200.0), ValueError, r"images\[0\] is torch.float32 and goes up to 200; .*divide by 255"),
    ],
)
def test_what_is_no_image_of_a_model(image, error, message):
    with pytest.raises(error, match=message):
        Preprocess()([image])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_left_to_the_criterion(value: float):
    """Which tells all processes; one that stopped before would leave the others waiting."""
    image = torch.rand(3, 8, 8).index_fill(1, torch.tensor([2]), value)
    assert not Preprocess()([image]).pixels.isfinite().all()


def test_preprocessing_pads_with_the_mean_colour():
    preprocess = Preprocess()
    batch = preprocess([torch.rand(3, 30, 40), torch.full((3, 50, 20), 128, dtype=torch.uint8)])
    assert batch.pixels.shape == (2, 3, 64, 64)
    assert (batch.pixels[0, :, 30:] == 0).all()
    assert (batch.pixels[1, :, :, 20:] == 0).all()
    expected = (128 / 255 - preprocess.mean) / preprocess.std
    torch.testing.assert_close(batch.pixels[1, :, :50, :20], expected.expand(3, 50, 20))
    assert batch.sizes == ((30, 40), (50, 20))
    assert batch.padded_sizes == ((32, 64), (64, 32))
