"""Where numbers come from: data, configuration and code, for the reports of an evaluation."""

from __future__ import annotations

import hashlib
import subprocess
from datetime import datetime, timezone
from functools import cache
from pathlib import Path

import detectron2
import torch
from detectron2.config import CfgNode

import mlickd
from mlickd.data.catalog import class_names, dataset_records
from mlickd.data.manifest import make_manifest

__all__ = ["data_record", "provenance"]


def provenance(cfg: CfgNode, dataset_name: str) -> dict:
    """
    Args:
        cfg: complete, as Detectron2 writes it into the run's ``config.yaml``.
        dataset_name: of the images that the numbers are on.

    Returns:
        Ready for JSON: ``data`` (:func:`data_record`), ``config`` (``sha256`` as of the file ``config.yaml``),
        ``versions`` (:func:`code_versions`), and ``date`` (UTC).
    """
    return {
        "data": data_record(dataset_name),
        "config": {"sha256": hashlib.sha256(cfg.dump().encode()).hexdigest()},
        "versions": code_versions(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def data_record(dataset_name: str) -> dict:
    """``name``, ``images`` and ``sha256`` of a dataset: the digest of ``tools/dataset_manifest.py``.

    Raises:
        InputError: there is no such dataset.
    """
    records = dataset_records(dataset_name, boxes=False)
    manifest = make_manifest(dataset_name, records, class_names(dataset_name))
    return {"name": dataset_name, "images": len(records), "sha256": manifest.digest()}


@cache
def code_versions() -> dict:
    """Versions of ``mlickd``, ``torch`` and ``detectron2``, and the ``commit`` of a git checkout that the package lies
    in: its hash, with ``-dirty`` behind it where files have changed since; None elsewhere."""
    return {
        "mlickd": mlickd.__version__,
        "commit": _commit(Path(mlickd.__file__).parent),
        "torch": torch.__version__,
        "detectron2": detectron2.__version__,
    }


def _commit(package: Path) -> str | None:
    git = ("git", "-C", str(package))
    try:
        # An installed package may lie in a folder of somebody else's checkout, which does not track it.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, check=True)
        describe = [*git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, check=True, text=True).stdout.strip() or None
    except (OSError, subprocess.CalledProcessError):
        return None
