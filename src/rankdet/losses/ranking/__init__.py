"""Ranking losses: torch and the standard library, nothing else."""
