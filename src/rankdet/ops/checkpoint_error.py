"""What is raised for a file, folder or repository that holds no usable model."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says which file, why, and what to do."""
