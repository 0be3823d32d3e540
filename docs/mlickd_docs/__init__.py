"""Helpers of `docs/hooks.py` that build the pages of the documentation."""
