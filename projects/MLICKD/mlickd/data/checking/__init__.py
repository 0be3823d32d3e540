"""Checks of a dataset before it is used: images, labels, duplicates, proposals."""
