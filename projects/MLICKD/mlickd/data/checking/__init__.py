"""Checks of a dataset before it is used: images, labels, copies, proposals."""
