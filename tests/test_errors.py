"""Errors of a command: one line on standard error and an exit status."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest
from torch.utils.data import DataLoader

from helpers.forked_runs import fork, wait_or_kill
from mlickd.errors import InputError, ProcessError, run_tool


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_DEBUG", "")
    monkeypatch.setattr("sys.argv", ["tool"])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable:
    """Return a function that runs a failing tool, and returns its status and standard error."""

    def run(main: Callable[[], object], **options) -> tuple[int, str]:
        with pytest.raises(SystemExit) as caught:
            run_tool(main, **options)
        output = capsys.readouterr()
        assert output.out == ""
        return caught.value.code, output.err

    return run


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (InputError("labels.csv: line 3:\n  no such label"), 2, "labels.csv: line 3: no such label\n"),
        (InputError("a\0b\x1b[31m\udcff é.jpg: not found"), 2, "a\\x00b\\x1b[31m\\udcff é.jpg: not found\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/out"), 2, "/out: Permission denied; "),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "No space left on device; "),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/a/b"), 2, "/a/b: Not a directory; "),
        (ProcessError("rank 1:\n  File a.py\n\x1b"), 1, "rank 1:\n  File a.py"),
    ],
)
def test_errors_have_a_status_and_a_line_that_is_safe_to_print(error: Exception, status: int, line: str, run) -> None:
    found = run(Mock(side_effect=error))
    assert found[0] == status and found[1].startswith(f"error: {line}") and "\x1b" not in found[1]


@pytest.mark.parametrize(
    "bug",
    [KeyError("bug"), FileNotFoundError(errno.ENOENT, "gone", "x"), OSError("odd"), BrokenPipeError("of a worker")],
)
def test_a_bug_keeps_its_traceback(bug: Exception) -> None:
    with pytest.raises(type(bug)):
        run_tool(Mock(side_effect=bug))


def test_debug_prints_the_traceback_above_the_line(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option works at any position, and also in commands that this command starts."""
    seen = []

    def main() -> None:
        seen.append(sys.argv[1:])
        raise InputError("\x1b.jpg: not found")

    monkeypatch.setattr("sys.argv", ["tool", "--config-file", "c.yaml", "KEY", "VALUE", "--debug"])
    for _ in range(2):  # the second time, only the environment variable is set
        first, *_, last = run(main)[1].splitlines()
        assert first.startswith("Traceback") and last == "error: \\x1b.jpg: not found"
    assert seen == [["--config-file", "c.yaml", "KEY", "VALUE"]] * 2


def test_ctrl_c_in_a_terminal_ends_all_processes(tmp_path: Path) -> None:
    def command() -> None:
        os.setsid()
        threading.Timer(3, os.killpg, [os.getpid(), signal.SIGINT]).start()
        run_tool(lambda: list(DataLoader(range(10_000), num_workers=2, collate_fn=lambda _: time.sleep(0.1))))

    process = fork(command, tmp_path / "log")
    assert wait_or_kill(process, 60) == 130
    output = (tmp_path / "log").read_text()
    assert output.splitlines()[-1] == "stopped" and "Traceback" not in output
    deadline = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process, 0)
            time.sleep(0.1)


PRINT = "print('x', file=sys.{})"


@pytest.mark.parametrize(
    ("stream", "unbuffered", "command"),
    [("stdout", "", PRINT), ("stdout", "1", PRINT), ("stderr", "", PRINT), ("stderr", "", "fail()")],
)
def test_a_closed_pipe_ends_the_command_silently(stream: str, unbuffered: str, command: str) -> None:
    code = "import sys; from mlickd.errors import InputError, run_tool\ndef fail(): raise InputError('a.jpg: wrong')\n"
    code += f"run_tool(lambda: {command.format(stream)})"
    reader, writer = os.pipe()
    os.close(reader)
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer}
    result = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, **outputs)
    os.close(writer)
    assert (result.returncode, result.stdout or b"", result.stderr or b"") == (141, b"", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux has it")
@pytest.mark.parametrize("size", [1, 100_000])  # written at the end, and at once
@pytest.mark.parametrize("status", [0, 1])  # of a command that reports a result
def test_an_output_on_a_full_disk_is_one_line(size: int, status: int) -> None:
    code = f"from mlickd.errors import run_tool; run_tool(lambda: (print('x' * {size}), exit({status})))"
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.returncode == 2 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


def test_no_letter_is_an_error_and_a_log_gets_a_line_every_ten_percent(monkeypatch, capfd) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    code = "from mlickd.errors import run_tool; from mlickd.progress import progress\n"
    code += "run_tool(lambda: print('\u4e2d', *progress(range(9), 'a', 'image'), *progress(range(20), 'b', 'image')))"
    subprocess.run([sys.executable, "-c", code], check=True)
    output = capfd.readouterr()
    assert output.out.split() == ["\\u4e2d", *map(str, range(9)), *map(str, range(20))]
    assert output.err.splitlines() == [f"b: {percent}% of 20 images" for percent in range(10, 101, 10)]
