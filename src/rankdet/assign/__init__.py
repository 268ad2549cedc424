"""The assign floor."""
