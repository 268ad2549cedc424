"""One-stage detectors: a stage that predicts at every cell of a pyramid, and recipes of it."""
