"""Regions on photos, the result figure, the gallery and charts."""
