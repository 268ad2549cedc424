"""Region-based detectors: proposals, stages with branches on them, and recipes of these."""
