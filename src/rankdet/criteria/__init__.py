"""The criteria floor."""
