"""How long a prediction takes beside torchvision's: Faster R-CNN and RetinaNet on R-50, 480 x 640, one thread.

    python benchmarks/prediction.py > benchmarks/results/prediction.md
    python benchmarks/prediction.py --ways eager,compiled,exported > benchmarks/results/prediction.md

Both sides get the same random weights: ours are converted from torchvision's, so that they find the same, and as much
is suppressed. "By ranking" reads the same weights as a model that learnt by ranking: a sigmoid for each class, and no
score threshold, so that many more candidates go to suppression. "Recipe" is the recipe by ranking as it is by default,
with random weights of its own; they leave more regions, from which it takes more points (as MMDetection does), so that
its time says what the recipe costs, not how fast the same work is done. The table says how many regions there are.

Every round runs each model once, one after another, and times are CPU seconds, so that what else the machine does
falls on all alike; the table has medians over rounds, and the median of the ratio to torchvision's in the same round
with its least and largest value.

The share outside convolutions is what the profiler counts of the CPU time of an eager run that no convolution takes.
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from rankdet import Predictor
from rankdet.convert import Source, from_torchvision
from rankdet.criteria import RankingCriterion
from rankdet.environment import facts
from rankdet.export import export
from rankdet.models import FasterRCNN, Postprocess, RetinaNet
from rankdet.nn import FrozenStatistics, TimmBackbone

SIZE = (480, 640)
THEIRS = {"fasterrcnn_resnet50_fpn": "Faster R-CNN", "retinanet_resnet50_fpn": "RetinaNet"}
RECIPES: dict[str, Callable[[], nn.Module]] = {
    "Faster R-CNN": lambda: FasterRCNN(num_classes=80, backbone=backbone((4, 8, 16, 32))),
    "RetinaNet": lambda: RetinaNet(num_classes=80, backbone=backbone((8, 16, 32))),
}
CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::_slow_conv2d_forward", "aten::thnn_conv2d")
Run = Callable[[], object]


def backbone(strides: tuple[int, ...]) -> TimmBackbone:
    return TimmBackbone("resnet50", strides=strides, norm=FrozenStatistics())


def models_of(name: str) -> dict[str, nn.Module]:
    """Torchvision's, ours with its weights, and ours by ranking."""
    torch.manual_seed(0)
    build = getattr(torchvision.models.detection, name)
    theirs = build(weights=None, weights_backbone=None, num_classes=81, min_size=SIZE[0], max_size=SIZE[1]).eval()
    weights = {key: value for key, value in theirs.state_dict().items() if not key.endswith("num_batches_tracked")}
    ours = from_torchvision(Source(Path("random.pth"), weights), name, epsilon=1e-5).model
    recipe = RECIPES[THEIRS[name]]().eval()
    return {"torchvision": theirs, "rankdet": ours, "rankdet, by ranking": ranked(ours), "rankdet, recipe": recipe}


def ranked(model: nn.Module) -> nn.Module:
    """The same weights, read as those of a model that learnt by ranking."""
    model = copy.deepcopy(model)
    stage: Any = model.roi.box_stages[0] if isinstance(model, FasterRCNN) else model.stage
    stage.criterion = RankingCriterion()
    if isinstance(model, FasterRCNN):  # a softmax has the background last
        layer = stage.head.classify
        layer.weight, layer.bias = (nn.Parameter(rows[: model.num_classes]) for rows in (layer.weight, layer.bias))
    model.postprocess = Postprocess(pre_nms=model.postprocess.pre_nms)
    return model


def regions_of(model: nn.Module, image: Tensor) -> str:
    """How many regions the first stage keeps."""
    if isinstance(model, FasterRCNN):
        return str(len(model.proposals([image])[0]["boxes"]))
    if not hasattr(model, "rpn"):
        return "–"
    found: list[int] = []
    handle = model.rpn.register_forward_hook(lambda _module, _inputs, output: found.append(len(output[0][0])))
    model([image])
    handle.remove()
    return str(found[0])


def check_same(theirs: nn.Module, ours: nn.Module, image: Tensor) -> str:
    """How far the detections of the two are apart."""
    with torch.no_grad():
        first, second = theirs([image])[0], ours([image])[0]
    count = min(len(first["scores"]), len(second["scores"]))
    apart = (first["scores"][:count] - second["scores"][:count]).abs().max() if count else torch.tensor(0.0)
    return f"{len(first['scores'])} and {len(second['scores'])} detections, scores {float(apart):.0e} apart"


def eager(model: nn.Module, image: Tensor) -> Run:
    return lambda: model([image])


def compiled(model: nn.Module, image: Tensor) -> Run:
    model.backbone.compile()  # torchvision's has the neck in it
    if hasattr(model, "neck"):
        model.neck.compile()
    model([image])
    return eager(model, image)


def exported(model: nn.Module, image: Tensor) -> Run:
    """By onnxruntime; torchvision's is not exported here, and runs as it is."""
    import onnxruntime

    if type(model).__module__.startswith("torchvision"):
        return eager(model, image)
    with tempfile.TemporaryDirectory() as folder:
        export(Predictor(model), Path(folder) / "a.onnx", size=SIZE)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(Path(folder) / "a.onnx"), options)
    pixels = {session.get_inputs()[0].name: image[None].numpy()}
    return lambda: session.run(None, pixels)


def rounds_of(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each in each round."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {title: [] for title in runs}
    for _ in range(rounds):
        for title, run in runs.items():
            began = time.process_time()
            run()
            times[title].append(time.process_time() - began)
    return times


def said(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def share_outside(run: Run) -> float:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        run()
    events = found.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    return 1 - sum(event.self_cpu_time_total for event in events if event.key in CONVOLUTIONS) / total


WAYS = {"eager": eager, "compiled": compiled, "exported": exported}


def rows(name: str, ways: list[str], rounds: int) -> Iterator[str]:
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))
    models = models_of(name)
    regions = {title: regions_of(model, image) for title, model in models.items()}
    print(f"{name}: {check_same(models['torchvision'], models['rankdet'], image)}", file=sys.stderr, flush=True)
    for way in ways:
        runs = {title: WAYS[way](model, image) for title, model in models.items()}
        times = rounds_of(runs, rounds)
        for title, seconds in times.items():
            ratio = said([mine / theirs for mine, theirs in zip(seconds, times["torchvision"], strict=True)])
            share = f"{100 * share_outside(runs[title]):.0f} %" if way == "eager" else "–"
            name_of = f"{THEIRS[name]} | {title} | {way} | {regions[title]}"
            yield f"| {name_of} | {1000 * statistics.median(seconds):.0f} | {ratio} | {share} |"


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", default="eager", help=f"any of {','.join(WAYS)}")
    parser.add_argument("--detectors", default=",".join(THEIRS), help=f"any of {','.join(THEIRS)}")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    known = dict(facts())
    print("# Prediction beside torchvision\n")
    print(f"`python benchmarks/prediction.py --ways {given.ways}`, {given.rounds} rounds,")
    print(f"one thread, on {known['processor']}; rankdet {known['rankdet']},")
    print(f"torch {known['torch']}, torchvision {known['torchvision']}, Python {known['python']}.")
    print(f"At the start {os.getloadavg()[0]:.0f} programs wanted the {os.cpu_count()} processors of the machine.\n")
    print("| detector | | way | regions | CPU ms | of torchvision's | outside convolutions |")
    print("|---|---|---|---:|---:|---:|---:|")
    for name in given.detectors.split(","):
        for line in rows(name, given.ways.split(","), given.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
