"""A fixture that runs the tools in this process."""

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@dataclass
class Result:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str

    def assert_ends_in_one_line(self, message: str) -> None:
        """Check for exit status 2 and a last line that starts with `error: ` and contains the message."""
        assert self.status == 2, self.err
        last = self.err.splitlines()[-1]
        assert last.startswith("error: ") and message in last, last


@pytest.fixture
def call_tool(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`call_tool(name, *arguments)` runs `tools/<name>.py` with these arguments."""

    def call(name: str, *arguments: object) -> Result:
        script = str(TOOLS / f"{name}.py")
        monkeypatch.setattr("sys.argv", [script, *map(str, arguments)])
        capsys.readouterr()  # drop earlier output
        status = 0
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        return Result(status, *capsys.readouterr())

    return call
