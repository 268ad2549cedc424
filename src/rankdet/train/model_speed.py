"""How fast a model is trained and detects, and what memory that takes: the columns that papers print beside AP."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import nn

from rankdet.data.loader import Batch
from rankdet.eval.inference import answer
from rankdet.train.display import Display
from rankdet.train.errors import TrainingError
from rankdet.train.memory import peak_memory, reset_peak, synchronise
from rankdet.train.optimiser import Optimiser
from rankdet.train.options import Precision

_DTYPES = {"32-true": None, "16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
Work = Callable[..., object]


@dataclass(frozen=True)
class Timing:
    """Of one kind of work: the median in ``seconds``, of how many ``repetitions``, and the most ``memory`` in bytes.

    ``memory`` is that of the tensors on a GPU, that of the whole process on a CPU, and None where nothing tells.
    """

    seconds: float
    repetitions: int
    memory: int | None


@dataclass(frozen=True)
class ModelSpeed:
    """What a training step of ``batch_size`` images takes, and what detecting in a single image takes."""

    precision: Precision
    batch_size: int
    training: Timing
    prediction: Timing

    @property
    def images_per_second(self) -> float:
        """In training, loading aside."""
        return self.batch_size / self.training.seconds

    @property
    def predictions_per_second(self) -> float:
        """Images in which is detected, one after the other; the "fps" of papers."""
        return 1 / self.prediction.seconds

    def to_dict(self) -> dict[str, Any]:
        """Plain types; seconds and bytes."""
        return {
            **asdict(self),
            "images_per_second": self.images_per_second,
            "predictions_per_second": self.predictions_per_second,
        }


def benchmark_model(
    model: nn.Module,
    batches: Sequence[Batch],
    *,
    optimiser: Optimiser,
    images: Sequence[Batch] | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "32-true",
    gradient_clip: float | None = None,
    steps: int = 10,
    warm_up: int = 3,
    seconds: float = 60.0,
) -> ModelSpeed:
    """Time training steps and predictions of a model, batches already being on the device.

    A step is the forward pass with its losses, the backward pass and the step of the optimiser. Its rate is 0, so that
    all steps do the same work and the weights stay what they are. The model is left in evaluation mode on the device.

    Args:
        model: of torchvision's calling convention.
        batches: images and targets, as a loader gives them; they take turns.
        optimiser: what steps are made with.
        images: batches to detect in, of a single image each as papers have it; None for the images of `batches`.
        device: where to.
        precision: "32-true", "16-mixed" (on GPUs, loss scaling included) or "bf16-mixed".
        gradient_clip: largest norm of the gradient; None for no clipping.
        steps: repetitions that are timed, at most; as many predictions.
        warm_up: repetitions before them.
        seconds: after which neither training nor prediction begins another repetition; at least one is timed.

    Raises:
        TrainingError: when the device has not memory enough.

    >>> from rankdet.models import RetinaNet
    >>> from rankdet.train import SGD, random_batch
    >>> model = RetinaNet(num_classes=3, backbone="test_resnet", channels=16)
    >>> batch = random_batch(2, height=64, width=64, num_classes=3)
    >>> speed = benchmark_model(model, [batch], optimiser=SGD(lr=0.01), steps=1, warm_up=1)
    >>> speed.training.seconds > speed.prediction.seconds, speed.batch_size
    (True, 2)
    """
    device = torch.device(device)
    check_precision(precision, device)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not batches:
        raise ValueError("there are no batches to measure with; give at least one")
    singles = images if images is not None else [([i], [t]) for batch in batches for i, t in zip(*batch, strict=True)]
    model.to(device)
    limits: dict[str, Any] = {"steps": steps, "warm_up": warm_up, "seconds": seconds}
    try:
        step = _step_of(model.train(), optimiser, device=device, precision=precision, gradient_clip=gradient_clip)
        training = _timed(step, batches, device, title=f"steps, {precision}", **limits)
        for parameter in model.parameters():
            parameter.grad = None
        predict = _prediction_of(model.eval(), device, precision)
        prediction = _timed(predict, singles, device, title=f"predictions, {precision}", **limits)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"the device has no memory left: {str(error).splitlines()[0]} Take a smaller batch or smaller images"
        ) from error
    return ModelSpeed(precision, len(batches[0][0]), training, prediction)


def check_precision(precision: str, device: torch.device) -> None:
    """ValueError for a precision that there is not, or not on the device."""
    if precision not in _DTYPES:
        raise ValueError(f"precision must be one of {', '.join(get_args(Precision))}; got {precision}")
    if precision == "16-mixed" and device.type == "cpu":
        raise ValueError("precision 16-mixed is for GPUs; on a CPU take bf16-mixed")


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=_DTYPES[precision], enabled=_DTYPES[precision] is not None)


def _step_of(
    model: nn.Module, optimiser: Optimiser, *, device: torch.device, precision: str, gradient_clip: float | None
) -> Work:
    stepper = optimiser.build(model, 0.0)
    trained = [parameter for group in stepper.param_groups for parameter in group["params"]]
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "16-mixed")

    def step(*batch: Any) -> None:
        stepper.zero_grad()
        with _autocast(device, precision):
            losses = model(*batch)
            total = torch.stack([loss.reshape(()) for loss in losses.values()]).sum()
        scaler.scale(total).backward()
        if gradient_clip is not None:
            scaler.unscale_(stepper)
            nn.utils.clip_grad_norm_(trained, gradient_clip)
        scaler.step(stepper)
        scaler.update()

    return step


def _prediction_of(model: nn.Module, device: torch.device, precision: str) -> Work:
    @torch.no_grad()
    def predict(*batch: Any) -> None:
        with _autocast(device, precision):
            answer(model, *batch)

    return predict


def _timed(
    work: Work, batches: Sequence[Batch], device: torch.device, *, title: str, steps: int, warm_up: int, seconds: float
) -> Timing:
    """The median over the repetitions behind the warm-up, which loses its later ones where time is short."""
    times, end = list[float](), time.monotonic() + seconds
    for number in Display().track(range(warm_up + steps), f"timing {title}"):
        late = time.monotonic() > end
        if times and late:
            break
        warms_up = number < warm_up and not (number and late)
        batch = move_data_to_device(batches[number % len(batches)], device)
        if not warms_up and not times:
            reset_peak(device)
        synchronise(device)
        began = time.perf_counter()
        work(*batch)
        synchronise(device)
        if not warms_up:
            times.append(time.perf_counter() - began)
    return Timing(statistics.median(times), len(times), peak_memory(device))
