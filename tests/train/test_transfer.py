"""Weights of a checkpoint in another experiment: what a class is predicted by goes with its name, in every recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn

from rankdet.criteria import Centerness, PerSample, ScoreCriterion, SemanticCriterion, alrp_criterion
from rankdet.data import Categories, DetectionData, KeepSize, Shapes
from rankdet.losses import SoftmaxCrossEntropyLoss
from rankdet.models import (
    ATSS,
    FCOS,
    FSAF,
    PAA,
    RPN,
    SSD300,
    YOLACT,
    CascadeMaskRCNN,
    CascadeRCNN,
    DoubleHeadRCNN,
    DynamicMaskDetector,
    FasterRCNN,
    FoveaBox,
    FSAFRetinaNet,
    LibraRCNN,
    MaskRCNN,
    PrototypeDetector,
    RetinaNet,
    SOLOv2,
    SOLOv2Light,
    TwoStageDetector,
    fcos_criterion,
    libra_criterion,
    paa_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    solo_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import DenseHead, FrozenStatistics, Modification, RPNHead, SSDLayer, SSDNeck, TimmBackbone
from rankdet.nn.solov2 import KernelHead
from rankdet.ops.checkpoint import VERSION, CheckpointError
from rankdet.ops.class_rows import class_rows_of, training_tensors_of
from rankdet.train import SGD, Schedule, TrainerOptions, Transfer, fit, transfer_weights
from tests.train.fakes import TinyDetector

THEIRS = Categories(names=("cat", "dog", "cow"), ids=(17, 18, 21))
OURS = Categories(names=("cow", "pig", "cat", "hen"), ids=(1, 2, 3, 4))
SHARED = [(2, 0), (0, 2)]  # labels there and here

SMALL = {"backbone": "test_resnet", "channels": 16}
YOLO = {**SMALL, "image_size": 64}
GRIDS = partial(KernelHead, grids=(6, 5, 4, 3, 2), width=16, stacked=1, kernel_channels=16)
SMALL_MAPS = partial(SSDNeck, layers=[SSDLayer(channels=16)] * 4)
RECIPES: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {
    "ATSS": (ATSS, SMALL),
    "ATSS judged": (ATSS, {**SMALL, "criterion": ScoreCriterion(judged=Centerness())}),
    "PAA": (PAA, {**SMALL, "criterion": paa_criterion()}),
    "RetinaNet": (RetinaNet, {**SMALL, "criterion": ScoreCriterion()}),
    "FoveaBox": (FoveaBox, SMALL),
    "FSAF": (FSAF, SMALL),
    "FSAFRetinaNet": (FSAFRetinaNet, {**SMALL, "criterion": ScoreCriterion()}),
    "SSD300": (SSD300, {"backbone": "test_resnet", "neck": SMALL_MAPS, "criterion": ssd_criterion()}),
    "FCOS": (FCOS, {**SMALL, "criterion": fcos_criterion()}),
    "FasterRCNN": (FasterRCNN, SMALL),
    "FasterRCNN softmax": (FasterRCNN, {**SMALL, "criterion": softmax_criterion()}),
    "DoubleHeadRCNN": (DoubleHeadRCNN, SMALL),
    "LibraRCNN": (LibraRCNN, {**SMALL, "criterion": libra_criterion()}),
    "CascadeRCNN": (CascadeRCNN, SMALL),
    "MaskRCNN": (MaskRCNN, SMALL),
    "CascadeMaskRCNN": (CascadeMaskRCNN, {**SMALL, "criterion": smooth_softmax_criterion()}),
    "YOLACT": (YOLACT, YOLO),
    "YOLACT original": (YOLACT, {**YOLO, "criterion": yolact_criterion(), "semantic": SemanticCriterion()}),
    "SOLOv2": (SOLOv2, {**SMALL, "head": GRIDS}),
    "SOLOv2Light": (SOLOv2Light, {**SMALL, "criterion": solo_criterion(), "head": GRIDS}),
}


def make(recipe: Callable[..., nn.Module], num_classes: int, *, seed: int, **settings: Any) -> nn.Module:
    """A detector all of whose weights are random, those that begin with a constant too."""
    torch.manual_seed(seed)
    model = recipe(num_classes=num_classes, **settings).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def save(model: nn.Module, path: Path, categories: Categories = THEIRS) -> Path:
    record = {"version": VERSION, "model": model.plan(), "categories": categories.to_dict()}
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": weights, "rankdet": record}, path)
    return path


def _by_class(model: nn.Module) -> Iterator[Tensor]:
    """Everything that a detector says of classes, the class being the last axis; the background is behind them."""
    torch.manual_seed(7)
    widths = [16] * 5 if isinstance(model.neck.channels, int) else model.neck.channels
    maps = [torch.randn(1, width, 16 >> min(level, 4), 16 >> min(level, 4)) for level, width in enumerate(widths)]
    if isinstance(model, TwoStageDetector):
        for stage in model.roi.box_stages:
            inputs = torch.randn(3, 2, 16, 7, 7) if isinstance(model, DoubleHeadRCNN) else torch.randn(3, 16, 7, 7)
            logits, deltas = stage.head(inputs)
            yield logits
            if deltas.shape[1] > 4:
                yield deltas.unflatten(1, (-1, 4)).mT
            for branch in stage.branches:
                pooled = torch.randn(1, 16, 14, 14)
                labels = range(model.num_classes)
                yield torch.stack([branch.head(pooled, torch.tensor([label])) for label in labels], -1)
    elif isinstance(model, PrototypeDetector):
        yield model.stage.head(maps).dense.logits
        if model.semantic_head is not None:
            yield model.semantic_head(maps[0]).movedim(1, -1)
    else:
        yield model.stage.head(maps).logits if isinstance(model, DynamicMaskDetector) else model.stage.head(maps)[0]


@torch.no_grad()
def by_class(model: nn.Module) -> list[Tensor]:
    return list(_by_class(model))


@pytest.mark.parametrize("name", RECIPES)
def test_classes_are_predicted_as_before_whatever_their_number_and_order(name: str, tmp_path: Path):
    recipe, settings = RECIPES[name]
    source = make(recipe, 3, seed=0, **settings)
    target = make(recipe, 4, seed=1, **settings)
    fresh = by_class(target)
    state = {key: value.clone() for key, value in target.state_dict().items()}
    rows = {key: layout for key, layout in class_rows_of(target).items() if layout.columns(len(state[key])) != 1}
    transfer = transfer_weights(target, save(source, tmp_path / "a.ckpt"), categories=OURS)
    for tensor in state.keys() - rows.keys() - training_tensors_of(target):
        assert torch.equal(target.state_dict()[tensor], source.state_dict()[tensor]), tensor
    assert {transfer.outcomes[tensor].startswith("rows of 2 classes taken, of 2 fresh") for tensor in rows} == {True}
    outputs = list(zip(by_class(source), by_class(target), fresh, strict=True))
    assert outputs
    for there, here, before in outputs:
        for old, new in SHARED:
            assert torch.allclose(here[..., new], there[..., old], atol=1e-6)
        assert not torch.allclose(here[..., 2], before[..., 2], atol=1e-2)
        if there.shape[-1] == 4:  # the background of three classes
            assert torch.allclose(here[..., 4], there[..., 3], atol=1e-6)
    for tensor, layout in rows.items():
        value, old = (
            part[tensor].unflatten(0, (layout.groups, -1, layout.width)) for part in (target.state_dict(), state)
        )
        assert torch.equal(value[:, [1, 3]], old[:, [1, 3]]), "rows of new classes are as the model begins"


def test_a_softmax_becomes_sigmoids_that_say_the_same(tmp_path: Path):
    source = make(FasterRCNN, 3, seed=0, **SMALL, criterion=softmax_criterion())
    target = make(FasterRCNN, 4, seed=1, **SMALL)
    transfer = transfer_weights(target, save(source, tmp_path / "a.ckpt"), categories=OURS)
    there, here = by_class(source)[0], by_class(target)[0]
    for old, new in SHARED:
        assert torch.allclose(here[:, new], there[:, old] - there[:, 3], atol=1e-6)
    alone = torch.stack((there[:, 2], there[:, 3]), 1).softmax(1)[:, 0]
    assert torch.allclose(here[:, 0].sigmoid(), alone, atol=1e-6)
    assert "softmax there, sigmoids here: less the row of the background" in str(transfer)


def test_sigmoids_become_a_softmax_with_a_background_of_zero(tmp_path: Path):
    source = make(YOLACT, 3, seed=0, **YOLO)
    target = make(YOLACT, 4, seed=1, **YOLO, criterion=yolact_criterion())
    transfer = transfer_weights(target, save(source, tmp_path / "a.ckpt"), categories=OURS)
    there, here = by_class(source)[0], by_class(target)[0]
    for old, new in SHARED:
        assert torch.allclose(here[..., new], there[..., old], atol=1e-6)
    assert not here[..., 4].any()
    assert "sigmoids there, softmax here: the row of the background is 0" in str(transfer)


@pytest.mark.parametrize(("theirs", "ours"), [(3, 1), (1, 3), (1, 1)])
@pytest.mark.parametrize("recipe", [FasterRCNN, CascadeRCNN])
def test_one_class_alone_finds_its_boxes(recipe: Callable[..., nn.Module], theirs: int, ours: int, tmp_path: Path):
    """A head of one class cannot tell boxes of classes from boxes of all."""
    names = ("dog", "cat", "cow")
    source, target = make(recipe, theirs, seed=0, **SMALL), make(recipe, ours, seed=1, **SMALL)
    there, here = Categories.from_names(names[:theirs]), Categories.from_names(names[:ours][::-1])
    transfer_weights(target, save(source, tmp_path / "a.ckpt", there), categories=here)
    old, new = (
        model.roi.box_stages[0].head.regress.weight.detach().unflatten(0, (-1, 4)) for model in (source, target)
    )
    assert torch.equal(
        new[here.names.index("dog") if len(new) > 1 else 0], old[there.names.index("dog") if len(old) > 1 else 0]
    )


def test_a_region_proposal_network_knows_no_classes(tmp_path: Path):
    """Whatever its head is, and even where there is one class."""
    rpn = partial(RPN, head=partial(DenseHead, stacked=1))
    source, target = (make(FasterRCNN, 1, seed=seed, **SMALL, rpn=rpn) for seed in (0, 1))
    there, here = Categories.from_names(["cat"]), Categories.from_names(["dog"])
    transfer = transfer_weights(target, save(source, tmp_path / "a.ckpt", there), categories=here)
    assert torch.equal(target.rpn.head.classify.weight, source.rpn.head.classify.weight)
    assert transfer.outcomes["roi.stages.0.head.classify.weight"] == "rows of 0 classes taken, of 1 fresh"


def test_an_rpn_head_on_a_dense_detector_has_classes():
    head = RPNHead(8, anchors_per_cell=(3,), num_logits=5)
    assert class_rows_of(head)["classify.weight"].groups == 3


def test_nothing_of_the_training_travels(tmp_path: Path):
    backbone = {"backbone": TimmBackbone("test_resnet", norm=FrozenStatistics())}
    source, target = (
        make(RetinaNet, 3, seed=seed, **{**SMALL, **backbone}, criterion=alrp_criterion()) for seed in (0, 1)
    )
    counters = [name for name in target.state_dict() if name.endswith("num_batches_tracked")]
    balance = [name for name in target.state_dict() if ".criterion." in name]
    assert counters
    assert balance
    weights = {
        name: value + 3 if name in (*counters, *balance) else value for name, value in source.state_dict().items()
    }
    source.load_state_dict(weights)
    before = {name: target.state_dict()[name].clone() for name in (*counters, *balance)}
    transfer = transfer_weights(target, save(source, tmp_path / "a.ckpt"), categories=THEIRS)
    assert all(torch.equal(target.state_dict()[name], value) for name, value in before.items())
    assert not set(before) & set(transfer.outcomes)


def test_branches_that_one_side_lacks_are_listed(tmp_path: Path):
    judged = {**SMALL, "criterion": paa_criterion()}
    plain = {**SMALL, "criterion": ScoreCriterion()}
    there, here = make(PAA, 3, seed=0, **judged), make(PAA, 3, seed=1, **plain)
    said = transfer_weights(here, save(there, tmp_path / "a.ckpt"), categories=THEIRS)
    assert said.outcomes["stage.head.judge.weight"] == "left out: not in the model"
    there, here = make(PAA, 3, seed=0, **plain), make(PAA, 3, seed=1, **judged)
    before = here.stage.head.judge.weight.detach().clone()
    said = transfer_weights(here, save(there, tmp_path / "b.ckpt"), categories=THEIRS)
    assert said.outcomes["stage.head.judge.weight"] == "fresh: not in the file"
    assert torch.equal(here.stage.head.judge.weight, before)
    assert "stage.head.judge" in str(said)
    assert len(str(said).splitlines()) < 10


def untouched(model: nn.Module, act: Callable[[], object], message: str) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises((CheckpointError, ValueError), match=message):
        act()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_another_shape_is_named_and_refused(tmp_path: Path):
    path = save(make(ATSS, 3, seed=0, **SMALL), tmp_path / "a.ckpt")
    target = make(ATSS, 4, seed=1, **SMALL, criterion=ScoreCriterion())  # one anchor in the place of three
    start = partial(transfer_weights, target, path, categories=OURS)
    untouched(target, start, r"stage\.head\.classify\.weight is \(9, 16, 3, 3\) there and \(4, 16, 3, 3\) here")
    untouched(target, start, r"fresh=\['stage\.head\.classify', 'stage\.head\.regress'\]")
    said = start(fresh=["stage.head.classify", "stage.head.regress*"])
    assert said.outcomes["stage.head.regress.bias"] == "fresh, as asked for"
    assert said.outcomes["stage.head.box_tower.0.weight"] == "taken"
    untouched(target, partial(start, fresh=["stage.head.regres"]), "did you mean stage.head.regress")


def test_one_class_of_three_with_one_anchor_of_three_is_no_row_of_a_class(tmp_path: Path):
    path = save(make(ATSS, 3, seed=0, **SMALL), tmp_path / "a.ckpt")
    target = make(ATSS, 1, seed=1, **SMALL, criterion=ScoreCriterion())
    untouched(target, lambda: transfer_weights(target, path, categories=Categories.from_names(["cow"])), "regress")


def test_batch_normalisation_is_not_taken_for_another(tmp_path: Path):
    frozen = {**SMALL, "backbone": TimmBackbone("test_resnet", norm=FrozenStatistics())}
    there, here = make(ATSS, 3, seed=0, **frozen), make(ATSS, 3, seed=1, **SMALL)
    path = save(there, tmp_path / "a.ckpt")
    untouched(here, lambda: transfer_weights(here, path, categories=THEIRS), "batch normalisation there and another")
    path = save(here, tmp_path / "b.ckpt")
    untouched(there, lambda: transfer_weights(there, path, categories=THEIRS), "batch normalisation here and another")


class Mirrored(Modification):
    """Changes what the weights mean, and none of their shapes."""

    def prepare(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(lambda _module, images: (images[0].flip(-1),))


def test_a_network_that_makes_something_else_of_the_same_weights_is_refused(tmp_path: Path):
    mirrored = {**SMALL, "backbone": TimmBackbone("test_resnet", modifications=[Mirrored()])}
    there, here = make(ATSS, 3, seed=0, **mirrored), make(ATSS, 3, seed=1, **SMALL)
    path = save(there, tmp_path / "a.ckpt")
    untouched(here, lambda: transfer_weights(here, path, categories=THEIRS), "make another network")


def test_names_are_compared_composed_and_near_ones_are_told(tmp_path: Path):
    there = Categories.from_names(["caf\u0065\u0301", "RBC ", "White cell"])
    here = Categories.from_names(["caf\u00e9", "RBC", "white_cell"])
    source, target = make(ATSS, 3, seed=0, **SMALL), make(ATSS, 3, seed=1, **SMALL)
    said = str(transfer_weights(target, save(source, tmp_path / "a.ckpt", there), categories=here))
    assert "'white_cell' here is 'White cell' there" in said
    assert torch.equal(target.stage.head.classify.weight[:2], source.stage.head.classify.weight[:2])


def test_classes_of_one_name_go_by_their_order(tmp_path: Path):
    there = Categories(names=("part", "cat", "part"), ids=(1, 2, 3))
    here = Categories(names=("part", "part", "part"), ids=(1, 2, 3))
    source, target = make(FoveaBox, 3, seed=0, **SMALL), make(FoveaBox, 3, seed=1, **SMALL)
    old, fresh = source.stage.head.classify.bias.detach(), target.stage.head.classify.bias.detach().clone()
    transfer_weights(target, save(source, tmp_path / "a.ckpt", there), categories=here)
    assert torch.equal(target.stage.head.classify.bias, torch.stack((old[0], old[2], fresh[2])))


def test_weights_by_their_old_names_are_taken(tmp_path: Path):
    source, target = make(MaskRCNN, 3, seed=0, **SMALL), make(MaskRCNN, 4, seed=1, **SMALL)
    path = save(source, tmp_path / "a.ckpt")
    content = torch.load(path, weights_only=True)
    old = {name.replace("roi.stages.0.branches.0.", "roi.masks.0."): v for name, v in content["state_dict"].items()}
    torch.save(
        {**content, "state_dict": {n.replace("roi.stages", "roi.cascade.stages"): v for n, v in old.items()}}, path
    )
    said = transfer_weights(target, path, categories=OURS)
    assert "fresh: not in the file" not in set(said.outcomes.values())


# The engine around it.


class Begins(pl.Callback):
    """The weights before the first step."""

    def on_train_start(self, trainer, pl_module):
        self.weights = {name: value.clone() for name, value in pl_module.model.state_dict().items()}


def train(output: Path, *, classes: int = 3, **more: Any):
    val = Shapes(length=2, seed=1, image_size=64, num_classes=classes)
    return fit(
        model=TinyDetector(num_classes=classes),
        data=DetectionData(
            train=Shapes(length=4, seed=0, image_size=64, num_classes=classes),
            val=val,
            batch_size=2,
            workers=0,
            resize=KeepSize(),
        ),
        optimiser=SGD(lr=0.01),
        schedule=Schedule(epochs=1),
        trainer=TrainerOptions(accelerator="cpu", pictures=0),
        output=output,
        **more,
    )


def test_a_training_begins_with_the_weights_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    first, begins = train(tmp_path / "first"), Begins()
    capsys.readouterr()
    run = train(tmp_path / "second", classes=4, start_from=first.best_checkpoint, callbacks=[begins])
    said = capsys.readouterr().out
    table = said.index("rows of 3 classes taken, of 1 fresh")
    assert said.index("schedule") < table < said.index("epoch 1/1")
    assert "taken: circle, square, triangle; fresh: star" in said
    old = torch.load(first.best_checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(begins.weights["classify.weight"][:3], old["model.classify.weight"])
    assert torch.equal(begins.weights["stem.0.weight"], old["model.stem.0.weight"])
    assert torch.load(run.last_checkpoint, weights_only=True)["rankdet"]["started_from"] == {"file": "best.ckpt"}


def test_resuming_with_other_classes_points_to_starting(tmp_path: Path):
    first = train(tmp_path / "first")
    with pytest.raises(CheckpointError, match=r"trained on 3 classes, the data have 4.*--start-from .*last\.ckpt"):
        train(tmp_path / "second", classes=4, resume=first.last_checkpoint)


def test_resuming_with_classes_of_other_names_points_to_starting(tmp_path: Path):
    first = train(tmp_path / "first")
    content = torch.load(first.last_checkpoint, weights_only=True)
    content["rankdet"]["categories"]["names"][0] = "disc"
    torch.save(content, first.last_checkpoint)
    with pytest.raises(CheckpointError, match=r"'disc'.*--start-from .*last\.ckpt"):
        train(tmp_path / "first", resume=first.last_checkpoint)


def test_resuming_and_starting_exclude_each_other_unless_there_is_nothing_to_resume(tmp_path: Path, capsys):
    first = train(tmp_path / "first")
    with pytest.raises(ValueError, match="give one of them"):
        train(tmp_path / "second", resume=first.last_checkpoint, start_from=first.best_checkpoint)
    with pytest.raises(ValueError, match="fresh needs start_from"):
        train(tmp_path / "second", fresh=["classify"])
    capsys.readouterr()
    train(tmp_path / "second", resume="auto", start_from=first.best_checkpoint)
    assert "weights from" in capsys.readouterr().out
    train(tmp_path / "second", resume="auto", start_from=first.best_checkpoint)
    assert "weights from" not in capsys.readouterr().out


def test_the_table_is_what_the_transfer_says(tmp_path: Path):
    path = save(make(ATSS, 3, seed=0, **SMALL), tmp_path / "a.ckpt")
    said = transfer_weights(make(ATSS, 4, seed=1, **SMALL), path, categories=OURS)
    assert isinstance(said, Transfer)
    assert str(said).splitlines()[0] == f"weights from {path}"
    assert "taken: cow, cat; fresh: pig, hen; left out: dog" in str(said)


def test_a_softmax_of_several_backgrounds_gives_its_last(tmp_path: Path):
    many = ScoreCriterion(classification=SoftmaxCrossEntropyLoss(backgrounds=4), normaliser=PerSample())
    source = make(FasterRCNN, 3, seed=0, **SMALL, criterion=many)
    target = make(FasterRCNN, 4, seed=1, **SMALL, criterion=softmax_criterion())
    path = save(source, tmp_path / "a.ckpt")
    transfer_weights(target, path, categories=OURS)
    there, here = by_class(source)[0], by_class(target)[0]
    assert torch.allclose(here[:, [0, 2, 4]], there[:, [2, 0, 6]], atol=1e-6)
    content = torch.load(path, weights_only=True)
    content["rankdet"]["categories"] = {"names": ["cat", "dog"], "ids": [1, 2]}  # so that five columns are left
    torch.save(content, path)
    untouched(target, lambda: transfer_weights(target, path, categories=OURS), "classify")
