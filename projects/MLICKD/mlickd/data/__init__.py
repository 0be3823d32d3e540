"""Datasets, proposals, views of images, and the loaders of training and evaluation."""

from .build import build_multi_scale_loader, build_test_loader, build_train_loader, open_proposals
from .catalog import available_datasets, class_names, dataset_records, ensure_registered
from .mapper import MultiLabelMapper
from .proposals.image_proposals import propose
from .proposals.store import ProposalStore, proposals_path, write_store
from .sampling import ImageView, TrainingBatchSampler, TrainingSamples
from .views import View

__all__ = [
    "ImageView",
    "MultiLabelMapper",
    "ProposalStore",
    "TrainingBatchSampler",
    "TrainingSamples",
    "View",
    "available_datasets",
    "build_multi_scale_loader",
    "build_test_loader",
    "build_train_loader",
    "class_names",
    "dataset_records",
    "ensure_registered",
    "open_proposals",
    "propose",
    "proposals_path",
    "write_store",
]
