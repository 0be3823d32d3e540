"""Proposals of photos that no store has, made while they are read."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from mlickd.errors import InputError

from .methods import PROPOSAL_METHODS, complete_parameters, propose
from .store import ProposalStore, proposals_path

__all__ = ["ProposalMaker", "maker_for"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProposalMaker:
    """Makes for one photo what a store of this method and these parameters holds.

    Attributes:
        method: name in `PROPOSAL_METHODS`.
        parameters: those that differ from the method's defaults.
    """

    method: str
    parameters: Mapping[str, Any]

    def __call__(self, image: np.ndarray, image_format: str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (R, 4) and scores (R,) of an image, (H, W, 3) uint8 in ``image_format``; see `propose`."""
        return propose(image, self.method, self.parameters, image_format=image_format)


def maker_for(cfg: CfgNode) -> ProposalMaker:
    """Proposals like those that the model was trained on.

    The parameters are those of a store of DATASETS.TRAIN, where one is there, else the defaults of
    DATASETS.PROPOSALS.METHOD, with a warning.

    Raises:
        InputError: they came from a file of another project, or need a model file, of which a store knows the digest
            alone; a parameter is no longer known; a store does not say how it was made.
    """
    method, parameters = cfg.DATASETS.PROPOSALS.METHOD, {}
    files = cfg.DATASETS.PROPOSALS.TRAIN_FILES or [proposals_path(name, method) for name in cfg.DATASETS.TRAIN]
    for path in files:
        if os.path.exists(path):
            header = ProposalStore.open(path).header
            method, parameters = header.get("method"), header.get("parameters")
            if not isinstance(method, str) or not isinstance(parameters, dict):
                raise InputError(
                    f"{path}: its header has no method and parameters; make it again with tools/generate_proposals.py"
                )
            break
    else:
        logger.warning(
            "No proposals of the training data are here (%s): those of other photos are made with the defaults of %s, "
            "which may not be what the model was trained on",
            ", ".join(map(str, files)),
            method,
        )
    if method not in PROPOSAL_METHODS:
        raise InputError(
            f"DATASETS.PROPOSALS: proposals of {method} come from a file and cannot be made for other photos; import "
            "theirs with tools/convert_proposals.py, or name another METHOD"
        )
    if "model" in complete_parameters(method, parameters):
        raise InputError(
            f"DATASETS.PROPOSALS: {method} needs its model file, and nothing here says where that is; make a store "
            f"for these photos with tools/generate_proposals.py --method {method} --set model FILE"
        )
    logger.info("Proposals of %s are made now", method)
    return ProposalMaker(method, parameters)
