"""Datasets that are found by name: the known ones, and folders of one's own."""
