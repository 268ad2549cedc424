"""The command line. A command is imported when it is called, so that ``rankdet --help`` is there at once."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

from rankdet import __version__
from rankdet.extras import MissingLibraryError, needed_for
from rankdet.streams import say_what_can_be_said

COMMANDS = {
    "train": "train a detector from a preset or your own configuration",
    "eval": "AP and oLRP of a checkpoint, or of results from any tool",
    "predict": "detect objects in images; writes pictures and COCO results",
    "proposals": "write the proposals of a detector's first stage to a file",
    "check": "find problems in a dataset, and write a repaired copy",
    "report": "one HTML page with metrics, curves, errors and images, for a run or a results file",
    "calibrate": "make scores mean something, for a model or for results from any tool",
    "data": "convert a dataset to another format: COCO, VOC or YOLO",
    "convert": "make a checkpoint from weights of MMDetection, torchvision or Detectron2",
    "study": "what more training data is worth: AP over the number of training images",
    "export": "export a detector as an ONNX or torch.export graph, and check it against the detector",
    "benchmark": "measure how fast training images are loaded, and how fast a detector trains and detects",
    "show": "list detectors, losses and presets; print the resolved configuration or the environment",
}
WRONG_INPUT, INTERRUPTED = 2, 130
_TRACEBACK = "RANKDET_TRACEBACK"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 2 for a wrong input, 130 after Ctrl-C; 1 if `check` finds errors.

    With ``RANKDET_TRACEBACK=1`` in the environment errors come with the place they happened at.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    say_what_can_be_said()
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if arguments[0] == "--version":
        print(f"rankdet {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        return _complain("rankdet", f"there is no command {name}{_near(name)} (there are {', '.join(COMMANDS)})")
    try:
        _find_modules_here()
        with needed_for("this command", torch_with="train"):
            return importlib.import_module(f"rankdet.cli.{name}").main(rest)
    except KeyboardInterrupt:
        return _complain(f"rankdet {name}", "stopped", code=INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MissingLibraryError as error:
        return _complain(f"rankdet {name}", str(error))
    except (ValueError, OSError, RuntimeError) as error:
        return _report(f"rankdet {name}", error)


def _find_modules_here() -> None:
    """Modules of the working folder can be named, as with ``python -m rankdet``; installed ones come first."""
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())


def _report(command: str, error: Exception) -> int:
    """Say what is wrong with the input; errors of ours and of nobody's input keep their traceback."""
    from rankdet.train.errors import TrainingError, TrainingInterrupted

    if isinstance(error, TrainingInterrupted):
        return _complain(command, str(error), code=INTERRUPTED)
    if os.environ.get(_TRACEBACK) or (isinstance(error, RuntimeError) and not isinstance(error, TrainingError)):
        raise error
    from rankdet.cli.wording import in_options

    return _complain(command, in_options(_plain(error), command.removeprefix("rankdet ")))


def _plain(error: Exception) -> str:
    """The message without the traceback that a loading process put into it."""
    text = str(error)
    if text.startswith("Caught ") and "Original Traceback" in text:
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return text


def _complain(command: str, message: str, *, code: int = WRONG_INPUT) -> int:
    print(f"{command}: {message}", file=sys.stderr)
    return code


def _near(name: str) -> str:
    from rankdet.cli.errors import near

    return near(name, COMMANDS)


def _usage() -> str:
    lines = "\n".join(f"  {name:<10} {purpose}" for name, purpose in COMMANDS.items())
    return (
        f"usage: rankdet COMMAND [options]\n\nTrain object detectors by ranking.\n\ncommands:\n{lines}\n\n"
        "`rankdet COMMAND --help` explains a command, `rankdet --version` prints the version. Start with: rankdet "
        "train --config demo"
    )
