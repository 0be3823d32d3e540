"""Fixtures of the tests of datasets."""

from collections.abc import Iterator

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def catalogs() -> Iterator[None]:
    """Remove the datasets that a test registers from Detectron2's catalogs."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
