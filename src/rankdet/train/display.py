"""What a training shows: a live bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from rankdet.streams import say_what_can_be_said

T = TypeVar("T")


class Display:
    """Prints for people; silent on all but the first process.

    Args:
        console: where to; by default the standard output.
        silent: print nothing.
    """

    def __init__(self, *, console: Console | None = None, silent: bool = False) -> None:
        say_what_can_be_said()
        self.console = console if console is not None else Console(quiet=silent, soft_wrap=True, highlight=False)
        self.live = self.console.is_terminal and not self.console.quiet

    def silence(self) -> None:
        """Print nothing from now on."""
        self.console.quiet, self.live = True, False

    def print(self, text: RenderableType = "") -> None:
        """One text or table, as it is."""
        self.console.print(text, markup=False)

    def track(self, items: Iterable[T], title: str) -> Iterator[T]:
        """Goes through the items with a bar that vanishes at the end; no bar without a terminal."""
        if not self.live:
            yield from items
            return
        with _bar(self.console) as bar:
            task = bar.add_task(title, total=len(items) if isinstance(items, Sized) else None)
            for item in items:
                yield item
                bar.advance(task)

    def epoch(self, title: str, *, total: int, done: int = 0) -> EpochDisplay:
        """The display of one epoch's steps."""
        return EpochDisplay(self, title, total=total, done=done)


class EpochDisplay:
    """Steps of one epoch: a bar with the losses below it, or a line now and then.

    Args:
        display: where to.
        title: such as ``"epoch 3/12"``.
        total: steps of the epoch.
        done: steps made before this process began.
    """

    def __init__(self, display: Display, title: str, *, total: int, done: int = 0) -> None:
        self.display, self.title, self.total, self.done = display, title, total, done
        self._first, self._start = done, time.monotonic()
        self._live: Live | None = None
        if display.live:
            self._bar = _bar(display.console)
            self._task = self._bar.add_task(title, total=total, completed=done)
            self._losses = Text("")
            self._live = Live(self, console=display.console, transient=True, refresh_per_second=4)
            self._live.start()

    def __rich_console__(self, console: Console, options: Any) -> Iterator[RenderableType]:
        yield self._bar.get_renderable()
        yield self._losses

    def advance(self, done: int) -> None:
        """This many steps of the epoch are done."""
        self.done = done
        if self._live is not None:
            self._bar.update(self._task, completed=done)

    def show(self, losses: Mapping[str, float], lr: float) -> None:
        """New numbers: below the bar, or as a line of the log."""
        text = f"{format_losses(losses)}  lr {lr:.2g}"
        if self._live is not None:
            self._losses.plain = "  " + text
            return
        pace = (time.monotonic() - self._start) / max(1, self.done - self._first)
        left = format_seconds(pace * (self.total - self.done))
        self.display.print(f"{self.title}  step {self.done}/{self.total}  {text}  {pace:.2g} s/step  {left} left")

    def close(self) -> None:
        """Take the bar away."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def format_losses(losses: Mapping[str, float]) -> str:
    """The total, and what it is made of.

    >>> format_losses({"loss": 1.5, "ranking": 1.0, "box": 0.5})
    'loss 1.500 (ranking 1.000, box 0.500)'
    """
    parts = ", ".join(f"{name} {value:.3f}" for name, value in losses.items() if name != "loss")
    return f"loss {losses['loss']:.3f}" + (f" ({parts})" if parts else "")


CORRELATION = "correlation"


def format_correlations(logs: Mapping[str, float]) -> str:
    """Spearman's rho between the scores and the IoUs of the positives, of each stage that logs one.

    >>> format_correlations({"correlation": 0.41, "quality": 0.7})
    'score-IoU rho 0.41'
    >>> format_correlations({"rpn_correlation": 0.38, "roi_correlation": 0.45})
    'score-IoU rho rpn 0.38, roi 0.45'
    """
    found = {name.removesuffix(CORRELATION): rho for name, rho in logs.items() if name.endswith(CORRELATION)}
    shown = ", ".join(f"{stage.rstrip('_')} {rho:.2f}".strip() for stage, rho in found.items())
    return f"score-IoU rho {shown}" if found else ""


def format_seconds(seconds: float) -> str:
    """Minutes and seconds, and hours when there are any.

    >>> format_seconds(75), format_seconds(7275)
    ('1:15', '2:01:15')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        expand=True,
    )
