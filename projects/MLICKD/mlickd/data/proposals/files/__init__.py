"""Proposals in the file formats of other projects: readers, import into a store, and export."""

from .detectron2_pickle import read_detectron2_pickle, write_detectron2_pickle
from .importing import ImportCounts, import_proposals
from .matlab import read_mcg_folder, read_voc_mat
from .release_list import RELEASE_SIDE, read_release_list

__all__ = [
    "RELEASE_SIDE",
    "ImportCounts",
    "import_proposals",
    "read_detectron2_pickle",
    "read_mcg_folder",
    "read_release_list",
    "read_voc_mat",
    "write_detectron2_pickle",
]
