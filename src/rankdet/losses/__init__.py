"""Losses: the ranking losses (torch alone), and the classification and box losses that go with them."""
