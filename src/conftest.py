"""Doctests of what an extra brings are left out where the extra is not installed."""

from importlib.util import find_spec

OF_TRANSFORMERS = ["rankdet/models/queries/*detr*.py", "rankdet/models/queries/d_fine.py"]
collect_ignore_glob = [] if find_spec("transformers") else OF_TRANSFORMERS
