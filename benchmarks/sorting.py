"""Does the sorting term of RS Loss sort, and what makes it? Equal budget, several seeds, all against the paper's.

    python benchmarks/sorting.py run --output runs/sorting --bccd FOLDER     # what is not there yet; can be interrupted
    python benchmarks/sorting.py table --output runs/sorting

Only the criterion differs between rows. Besides AP and oLRP of the validation images, each run notes Spearman's
correlation of score and IoU over the true positives, and the AP and oLRP of 300 resamples of the images, the same for
all runs. So the interval of a difference to the paper's criterion is that of a paired bootstrap over images, of the
mean over the seeds; the spread of the difference over the seeds is told beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from compare import (
    Dataset,
    atss,
    bccd,
    built_in,
    evaluate,
    faster,
    focal_with_centerness,
    mean_and_spread,
    quality_focal,
    train,
)

from rankdet.criteria import Correlated, Criterion, RankingCriterion, StretchedIoU
from rankdet.eval import Evaluation
from rankdet.eval.correlation import score_iou_correlation
from rankdet.eval.resampling import Resampler
from rankdet.eval.undefined import mean_of_defined
from rankdet.losses.correlation import SpearmanLoss
from rankdet.losses.ranking import RankSortLoss

PAPER, RESAMPLES, LR = "RS, as in the paper", 300, 2e-3
MAKE = {"ATSS": atss, "Faster R-CNN": faster}


def _sorted(**sorting: object) -> RankingCriterion:
    return RankingCriterion(ranking=RankSortLoss(**sorting))


CRITERIA: dict[str, Callable[[], Criterion]] = {
    PAPER: RankingCriterion,
    "without sorting": partial(_sorted, sorting_weight=0.0),
    "sorting weight 5": partial(_sorted, sorting_weight=5.0),
    "sorting weight 5, delta 0.1": partial(_sorted, sorting_weight=5.0, sorting_delta=0.1),
    "weight 5, within an image": partial(_sorted, sorting_weight=5.0, sorting_scope="image"),
    "weight 5, within an object": partial(_sorted, sorting_weight=5.0, sorting_scope="object"),
    "stretched labels": lambda: RankingCriterion(quality=StretchedIoU()),
    "weight 5, stretched labels": lambda: RankingCriterion(
        ranking=RankSortLoss(sorting_weight=5.0), quality=StretchedIoU()
    ),
    "Spearman beside": lambda: Correlated(RankingCriterion(), correlation=SpearmanLoss(weight=1.0)),
    "focal, centerness": focal_with_centerness,
    "quality focal": quality_focal,
}
"""`focal, centerness` and `quality focal` are opponents, not variants."""


def crowded() -> Dataset:
    """The built-in dataset made hard: small objects, up to seven in an image, that hide each other."""
    settings = {"image_size": 96, "sizes": (0.15, 0.45), "objects": (3, 7), "occlusion": 0.6, "clutter": 2}
    return built_in(train=400, val=200, epochs=6, **settings)


@dataclass(frozen=True)
class Case:
    """One run."""

    dataset: str
    detector: str
    criterion: str
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        text = f"{self.dataset}-{self.detector}-{self.criterion}-{self.seed}"
        return "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in text)


def run(case: Case, dataset: Dataset) -> dict[str, object]:
    """Train and evaluate."""
    torch.manual_seed(case.seed)
    data = dataset.open()
    model = MAKE[case.detector](CRITERIA[case.criterion](), data.num_classes)
    began = time.process_time()
    train(model, data, epochs=dataset.epochs, lr=LR, seed=case.seed)
    spent = time.process_time() - began
    found = evaluate(model, data, masks=False)["bbox"]
    assert found.details is not None, "kept by a metric"
    metrics = {name: found.metrics[name] for name in ("AP", "AP50", "AP75", "oLRP", "oLRP_Loc")}
    correlation = score_iou_correlation(found.details.matches).spearman
    return {
        **{name: getattr(case, name) for name in ("dataset", "detector", "criterion", "seed")},
        "metrics": {**metrics, "spearman": correlation},
        "resampled": _resampled(found),
        "cpu_seconds": round(spent, 1),
    }


def _resampled(found: Evaluation) -> dict[str, list[float]]:
    """AP and oLRP of the same draws of images for every run."""
    assert found.details is not None, "kept by a metric"
    matches, rng = found.details.matches, np.random.default_rng(0)
    resampler, total = Resampler(matches), len(matches.ground_truth.image_ids)
    values: dict[str, list[float]] = {"AP": [], "oLRP": []}
    for _ in range(RESAMPLES):
        drawn = resampler(np.bincount(rng.integers(0, total, total), minlength=total))
        values["AP"].append(round(mean_of_defined(drawn.average_precision[:, 0]), 5))
        values["oLRP"].append(round(mean_of_defined(drawn.optimal_lrp[0]), 5))
    return values


def table(folder: Path) -> str:
    """Markdown: means and differences to the paper's criterion over the seeds that both have, in percent."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    lines: list[str] = []
    for dataset, detector in sorted({(run["dataset"], run["detector"]) for run in runs}):
        of_seed = {
            criterion: {
                run["seed"]: run
                for run in runs
                if (run["dataset"], run["detector"], run["criterion"]) == (dataset, detector, criterion)
            }
            for criterion in CRITERIA
        }
        lines += ["", f"{dataset}, {detector}:", ""]
        lines += ["| criterion | AP | AP75 | oLRP | rho | AP less the paper's | oLRP less the paper's | seeds |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
        lines += [_row(name, of_seed[name], of_seed[PAPER]) for name in CRITERIA if of_seed[name]]
    return "\n".join(lines).strip() + "\n"


def _row(name: str, runs: dict[int, dict], paper: dict[int, dict]) -> str:
    metrics = [run["metrics"] for run in runs.values()]
    cells = [mean_and_spread([100 * each[metric] for each in metrics]) for metric in ("AP", "AP75", "oLRP")]
    rho = statistics.mean(each["spearman"] for each in metrics)
    seeds = sorted(runs.keys() & paper.keys())
    changes = [_change(metric, seeds, runs, paper) if name != PAPER and seeds else "" for metric in ("AP", "oLRP")]
    return "| " + " | ".join([name, *cells, f"{rho:.2f}", *changes, str(len(runs))]) + " |"


def _change(metric: str, seeds: list[int], runs: dict[int, dict], paper: dict[int, dict]) -> str:
    """Mean over the seeds, its spread, and the bootstrap's 95 % interval of that mean."""
    by_seed = [100 * (runs[seed]["metrics"][metric] - paper[seed]["metrics"][metric]) for seed in seeds]
    drawn = [
        100 * (np.array(runs[seed]["resampled"][metric]) - np.array(paper[seed]["resampled"][metric])) for seed in seeds
    ]
    low, high = np.percentile(np.mean(drawn, axis=0), (2.5, 97.5))
    spread = f" ± {statistics.stdev(by_seed):.1f}" if len(by_seed) > 1 else ""
    return f"{statistics.mean(by_seed):+.1f}{spread} ({low:+.1f} to {high:+.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"), help="train what is missing, or print what is there")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results, one JSON file a run")
    parser.add_argument("--bccd", type=Path, help="folder with instances_train.json and instances_val.json")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each row")
    parser.add_argument("--only", default="", help="run only what contains this, such as 'crowded-ATSS'")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.action == "table":
        print(table(options.output))
        return
    datasets = {"crowded": crowded(), **({"bccd": bccd(options.bccd)} if options.bccd else {})}
    cases = [
        case
        for seed in range(options.seeds)
        for detector in MAKE
        for dataset in datasets
        for criterion in CRITERIA
        if options.only in (case := Case(dataset, detector, criterion, seed)).name
    ]
    for number, case in enumerate(cases, start=1):
        path = options.output / f"{case.name}.json"
        if path.exists():
            continue
        result = run(case, datasets[case.dataset])
        partial_file = path.with_suffix(".part")
        partial_file.write_text(json.dumps(result), encoding="utf-8")
        partial_file.rename(path)
        metrics = result["metrics"]
        print(f"{number}/{len(cases)} {case.name}: AP {metrics['AP']:.3f}, {result['cpu_seconds']} s", flush=True)  # type: ignore[index]


if __name__ == "__main__":
    main()
