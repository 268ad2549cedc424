"""What `rankdet check` prints: the datasets in numbers, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from rankdet.doctor import Census, ClassCount, Diagnosis, Examination, Finding, Severity
from rankdet.doctor.finding import counted

if TYPE_CHECKING:
    from rankdet.cli.anchor_fit import AnchorFit

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow", Severity.NOTE: "bold cyan"}
_PIPE_WIDTH = 110
_MOST_CLASSES, _HEAD, _TAIL = 12, 6, 4
_BAR = 24


class DiagnosisPrinter:
    """Prints a diagnosis for people: in colours on a terminal, without them into a file.

    Args:
        console: where to; None for the standard output.
    """

    def __init__(self, *, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        if console is None and not self.console.is_terminal:
            self.console = Console(highlight=False, width=_PIPE_WIDTH)

    def print(self, text: str | Text = "", *, indent: int = 0) -> None:
        """One text, wrapped within its indentation."""
        text = Text(text) if isinstance(text, str) else text
        self.console.print(Padding(text, (0, 0, 0, indent), expand=False) if indent else text)

    def diagnosis(self, diagnosis: Diagnosis) -> None:
        """Everything that was found, dataset by dataset."""
        if diagnosis.val is None:
            self._examination("Dataset", diagnosis.train)
            return
        self._examination("Training data", diagnosis.train)
        self._examination("Validation data", diagnosis.val)
        if diagnosis.between:
            self._heading("Training and validation data together", "")
            self._findings(diagnosis.between)

    def anchors(self, fits: Sequence[AnchorFit], *, model: str) -> None:
        """How objects fit the anchors of a detector."""
        self._heading("Anchors", model)
        if not fits:
            self.print("No stage of it matches objects with priors that are known before training.", indent=2)
        for fit in fits:
            self.print(f"{fit.stage}: {fit.rule}", indent=2)
            if fit.sizes:
                self.console.print(Padding(_fit_grid(fit), (0, 0, 1, 2), expand=False))
            self._findings(fit.findings)

    def verdict(self, findings: Sequence[Finding], *, repairable: bool) -> None:
        """The counts, last, where they are seen."""
        counts = {kind: sum(finding.severity is kind for finding in findings) for kind in Severity}
        text = Text("\n")
        for kind, count in counts.items():
            text.append(", " if kind is not Severity.ERROR else "", style="bold")
            text.append(counted(f"{{{kind.value}/{kind.value}s}}", count), style=_STYLES[kind] if count else "bold")
        self.print(text)
        mendable = sum(finding.repair is not None for finding in findings)
        if mendable and repairable:
            self.print(f"--fix FOLDER writes a copy in which {mendable} of these {len(findings)} are repaired.")

    def _examination(self, title: str, examination: Examination) -> None:
        kind = f" ({examination.table.format})" if examination.table else ""
        self._heading(title, examination.source.path + kind)
        if examination.census is not None:
            for line in _census_lines(examination.census):
                self.print(line, indent=2)
            if examination.census.classes:
                self.console.print(Padding(_class_grid(examination.census.classes), (1, 0, 1, 2), expand=False))
        if examination.table is not None:
            self.print(_looks_line(examination), indent=2)
        self._findings(examination.findings)
        if not examination.findings:
            self.print(Text("✓ nothing is wrong with it", style="green"), indent=2)

    def _heading(self, title: str, subject: str) -> None:
        self.print(Text.assemble("\n", (title, "bold"), f"  {subject}" if subject else ""))

    def _findings(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            name = (f"  [{finding.name}]", "dim")
            kind = (finding.severity.value, _STYLES[finding.severity])
            self.print(Text.assemble(kind, f"  {finding.what}", name), indent=2)
            for example in finding.examples:
                self.print(Text(example, style="dim"), indent=6)
            if finding.count > len(finding.examples) > 0:
                self.print(Text(f"... and {finding.count - len(finding.examples):,} more", style="dim"), indent=6)
            self.print(f"→ {finding.remedy}{' (--fix does)' if finding.repair else ''}", indent=4)


def _census_lines(census: Census) -> Iterator[str]:
    sizes = [f"{width} x {height}" for height, width in census.sizes]
    line = counted("{image/images}", census.images)
    if len(set(sizes)) == 1:
        line += f" of {sizes[0]}"
    elif sizes:
        line += f" of {sizes[0]} to {sizes[-1]}, the middle one {sizes[1]}"
    yield line + (f", {census.empty_images:,} without objects" if census.empty_images else "")
    shares = [f"{share / max(census.objects, 1):.0%} {name}" for name, share in _sizes(census)]
    line = (
        f"{counted('{object/objects}', census.objects)}: {', '.join(shares)}; up to {census.most_objects:,} in an image"
    )
    yield line if census.objects else "no objects"
    yield f"{counted('{mask/masks}', census.masks) if census.masks else 'no masks'}" + (
        f", {census.ignored:,} regions to be ignored (crowd, difficult)" if census.ignored else ""
    )


def _sizes(census: Census) -> list[tuple[str, int]]:
    return [("small", census.small), ("medium", census.medium), ("large", census.large)]


def _looks_line(examination: Examination) -> str:
    images, looks = len(examination.table.images) if examination.table else 0, examination.looks
    if any(look.digest for look in looks.values()):
        return f"All {counted('{image/images}', len(looks))} were decoded."
    what = "the headers of all images" if len(looks) == images else f"the headers of {len(looks):,} images"
    return f"Looked at {what}; --images decodes all of them."


def _class_grid(classes: Sequence[ClassCount]) -> Grid:
    """The classes by frequency; of many, the most and the least frequent ones."""
    grid = Grid(box=None, pad_edge=False, show_header=True, header_style="dim")
    grid.add_column(f"{len(classes)} {'class' if len(classes) == 1 else 'classes'}", overflow="fold")
    grid.add_column("objects", justify="right", no_wrap=True)
    grid.add_column("images", justify="right", no_wrap=True)
    grid.add_column("", no_wrap=True)
    most = max(1, classes[0].objects)
    shown: list[ClassCount | None] = list(classes)
    if len(classes) > _MOST_CLASSES:
        middle = classes[len(classes) // 2]
        shown = [*classes[:_HEAD], None, middle, None, *classes[-_TAIL:]]
    for item in shown:
        if item is None:
            grid.add_row(Text("...", style="dim"), "", "", "")
        else:
            bar = "█" * max(round(_BAR * item.objects / most), 1 if item.objects else 0)
            grid.add_row(Text(item.name), f"{item.objects:,}", f"{item.images:,}", Text(bar, style="blue"))
    return grid


def _fit_grid(fit: AnchorFit) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="dim")
    for name in ("", "objects", "best IoU (median)", "only by their best anchor", "by none"):
        grid.add_column(name, justify="right" if name else "left")
    for size in fit.sizes:
        median = "–" if size.median_iou is None else f"{size.median_iou:.2f}"
        numbers = (f"{size.objects:,}", median, f"{size.weak:,}", f"{size.unmatched:,}")
        grid.add_row(size.name, *numbers)
    return grid
