"""What can be wrong with a dataset, as exceptions whose message names the file or id and the remedy."""

from __future__ import annotations

IMAGES = "images=FOLDER"
MASKS, NO_MASKS = "masks=True", "masks=False"
CLASSES = "classes=[NAME, ...]"
KEEP_EMPTY = "skip_empty=False"
MIN_SIZE = "min_size=PIXELS"
"""How messages name the arguments of datasets; the command line puts its options there (`rankdet.cli.wording`)."""
FIX = "`rankdet check DATA --fix FOLDER` writes a copy"
"""How messages name the way to a repaired copy."""


class DatasetError(ValueError):
    """A dataset that cannot be used as it is; the message says what is wrong, where, and how to fix it."""


class CorruptImageError(DatasetError):
    """An image that cannot be decoded, or whose size is not the one that its annotations were made on.

    Training skips such images (:class:`rankdet.data.SkipCorrupt`); everything else stops with the message.
    """


class ImageTooLargeError(CorruptImageError):
    """An image that has more pixels than allowed (:mod:`rankdet.data.pixel_limit`); nothing else is wrong with it."""
