"""The eval floor."""
