"""Show versions, devices and folders, for bug reports, also in a damaged environment."""

import multiprocessing
import os
import platform
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

from mlickd import __version__
from mlickd.cli.command_line import command_parser
from mlickd.environment import dataset_root, find_commit

EPILOG = "example:\n  mlickd env"
_PACKAGES = ("torch", "torchvision", "timm", "numpy", "Pillow", "onnxruntime")


def main() -> None:
    """Print a line for each version, device and folder, and for each package that cannot be imported."""
    command_parser(__doc__, EPILOG).parse_args()
    for name, text in _rows():
        print(f"{name:<13} {text}", flush=True)  # an import can crash


def _rows() -> Iterator[tuple[str, str]]:
    installed = {str(distribution.name): distribution.version for distribution in distributions()}
    rows = {
        "mlickd": f"{__version__}, commit {find_commit() or 'unknown'}, in {Path(__file__).parents[1]}",
        "Python": f"{platform.python_version()} on {platform.platform()}, {sys.executable}",
        **{name: installed.get(name, installed.get(name.lower(), "missing")) for name in _PACKAGES},
        # Several OpenCV packages overwrite each other's files.
        "OpenCV": ", ".join(f"{name} {found}" for name, found in installed.items() if name.startswith("opencv")),
        "Detectron2": "missing; run `mlickd install-detectron2`",
        "threads": f"{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')}",
        "start method": multiprocessing.get_start_method(),
        "data root": f"{dataset_root()}{'' if dataset_root().is_dir() else ' (missing)'}",
    }
    if (found := find_spec("detectron2")) and found.origin:  # a folder of this name has no origin
        wheel = installed.get("sal-detectron2")
        rows["Detectron2"] = f"{f'wheel {wheel}' if wheel else 'another build'}, in {Path(found.origin).parent}"
    yield from rows.items()
    for name in ("numpy", "PIL", "cv2", "torch", "torchvision", "timm", "onnxruntime", "detectron2.layers"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # only their authors can remove the causes
                import_module(name)
        except Exception as error:
            if not isinstance(error, ModuleNotFoundError) or find_spec(name.partition(".")[0]):
                yield "broken", f"{name}: {error!r:.300}"
    if torch := sys.modules.get("torch"):
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield "PyTorch", f"{torch.__version__}, {torch.get_num_threads()} threads"
        yield from {"devices": ", ".join(names) or "CPU", "cache": torch.hub.get_dir()}.items()
