"""What goes wrong with files of other tools."""


class ConversionError(ValueError):
    """A file that cannot be converted; the message says why, and what to do."""
