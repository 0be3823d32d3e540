"""Images a second of this project's loader beside Detectron2's, on the same photos."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.data import transforms as T
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from mlickd.config import default_config
from mlickd.data import MultiLabelMapper, View, build_train_loader, dataset_records

from .machine import machine_line

__all__ = ["loader_table", "measure_loader"]

_OURS = "MultiLabelMapper"
