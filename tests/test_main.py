"""The command `mlickd`, as a user calls it."""

import subprocess
import sys
from pathlib import Path

from mlickd.cli import COMMANDS

ROOT = Path(__file__).parents[1]
# The console script that pip installs, which here also prints the slow libraries that it imported.
INSTALLED = """
import atexit, sys
atexit.register(lambda: print({'torch', 'detectron2', 'cv2', 'numpy'} & set(sys.modules)))
sys.argv[0] = '/bin/mlickd'
from mlickd.__main__ import main
main()
"""
# An environment without Detectron2.
MISSING = """
import sys
class Missing:
    def find_spec(name, *_):
        if name == 'detectron2':
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Missing)
sys.argv = ['mlickd', 'train']
"""


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=280)


def test_the_list_of_commands_does_not_import_slow_libraries() -> None:
    listed = run("-m", "mlickd").stdout
    assert run("-c", INSTALLED).stdout == f"{listed}set()\n"
    assert COMMANDS.keys() <= {line.split()[0] for line in listed.splitlines() if line.strip()}


def test_importing_the_package_registers_its_models() -> None:
    code = (
        "from detectron2.modeling import META_ARCH_REGISTRY as R; import mlickd; print(mlickd.default_config, *dict(R))"
    )
    (line,) = run("-c", code).stdout.splitlines()
    assert {"MultiLabelClassifier", "DistilledClassifier", "WeaklySupervisedDetector"} <= set(line.split())
