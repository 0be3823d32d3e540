"""The results of a training run that must not depend on whether it was killed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from helpers.forked_runs import content_digest
from mlickd.engine.checkpointing import DIGESTS
from mlickd.engine.writers import METRICS
from mlickd.files import file_digest

__all__ = ["differences", "ending"]

# Times differ between runs.
_TIMES = ("time", "data_time", "rank_data_time", "eta_seconds", "date")
# These depend on the folder of the run, or on the state of the checkout.
_ELSEWHERE = ("config", "versions")


def ending(output: Path) -> dict[str, object]:
    """Return the results in the folder of a run, by name.

    Checkpoints are compared bit by bit: weights, optimizer, schedule, scale of gradients, iteration.
    """
    found: dict[str, object] = {path.name: content_digest(path) for path in sorted(output.glob("*.pth"))}
    lines = [json.loads(line) for line in (output / METRICS).read_text().splitlines()]
    found[METRICS] = [{name: _exact(name, value) for name, value in line.items() if _kept(name)} for line in lines]
    for path in sorted(output.rglob("*results.json")):
        content = json.loads(path.read_text())
        found[str(path.relative_to(output))] = {name: value for name, value in content.items() if _kept(name)}
    for path in sorted(output.rglob("*.npz")):
        found[str(path.relative_to(output))] = _arrays_digest(path)
    found["last_checkpoint"] = (output / "last_checkpoint").read_text()
    digests = json.loads((output / DIGESTS).read_text())
    found[DIGESTS] = [(name, file_digest(output / name) == digest) for name, digest in digests.items()]
    found["files"] = sorted(
        str(path.relative_to(output)) for path in output.rglob("*") if not path.name.startswith("events.")
    )
    return found


def differences(expected: dict[str, object], found: dict[str, object], output: Path) -> list[str]:
    """Return one line if something differs, else nothing."""
    names = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    described = []
    for name in names:
        one, other = found.get(name), expected.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            parts = [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]
            one, other = ({key: whole.get(key) for key in parts} for whole in (one, other))
        described.append(f"{name} is {one!s:.200} instead of {other!s:.200}")
    return [f"{output}: {'; '.join(described)}"] if names else []


def _kept(name: str) -> bool:
    return name not in _TIMES and name not in _ELSEWHERE


def _exact(name: str, value: object) -> object:
    # A loss is smoothed over the iterations of one process, so only its presence can be compared.
    return value if "/" in name or name in ("iteration", "lr") else "smoothed"


def _arrays_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with np.load(path, allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode() + arrays[name].tobytes())
    return digest.hexdigest()
