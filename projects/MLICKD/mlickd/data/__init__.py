"""Datasets, proposals, views of images, and the loaders of training and evaluation."""

from .. import registration  # noqa: F401
from .build import build_test_loader, build_train_loader, open_proposals
from .catalog import class_names, dataset_records
from .mapper import MultiLabelMapper
from .proposals.image_proposals import propose
from .proposals.store import ProposalStore, image_list_digest, proposals_path, write_store
from .sampling import ImageView, TrainingBatchSampler, TrainingSamples
from .views import View

__all__ = [
    "ImageView",
    "MultiLabelMapper",
    "ProposalStore",
    "TrainingBatchSampler",
    "TrainingSamples",
    "View",
    "build_test_loader",
    "build_train_loader",
    "class_names",
    "dataset_records",
    "image_list_digest",
    "open_proposals",
    "propose",
    "proposals_path",
    "write_store",
]
