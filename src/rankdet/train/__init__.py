"""The train floor."""
