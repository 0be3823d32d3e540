from __future__ import annotations

import errno
import os
import signal
import sys
import time

import pytest

from mlickd.errors import InputError, ProcessError, run_tool


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLICKD_DEBUG", "")
    monkeypatch.setattr("sys.argv", ["tool"])


def wrong() -> None:
    raise InputError("labels.csv: line 3:\n  no such label")


def end_of(main, capsys: pytest.CaptureFixture[str]) -> str:
    """What a tool that ends with status 2 has said on standard error."""
    with pytest.raises(SystemExit) as caught:
        run_tool(main)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err


def test_an_input_error_is_one_line_and_status_2(capsys):
    assert end_of(wrong, capsys) == "error: labels.csv: line 3: no such label\n"


def test_what_a_terminal_would_obey_is_shown_as_text(capsys):
    def main():
        raise InputError("a\0b\x1b[31m\udcff é.jpg: not found")

    assert end_of(main, capsys) == "error: a\\x00b\\x1b[31m\\udcff é.jpg: not found\n"


def test_debug_shows_the_traceback_above_the_line(capsys, monkeypatch):
    """Wherever it stands, and also in the commands that this one starts."""
    seen = []

    def main():
        seen.append(sys.argv[1:])
        wrong()

    monkeypatch.setattr("sys.argv", ["tool", "--config-file", "c.yaml", "KEY", "VALUE", "--debug"])
    with_option = end_of(main, capsys)
    started = end_of(main, capsys)
    for output in (with_option, started):
        first, *_, last = output.splitlines()
        assert first.startswith("Traceback") and "in wrong" in output
        assert last == "error: labels.csv: line 3: no such label"
    assert seen == [["--config-file", "c.yaml", "KEY", "VALUE"]] * 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/out"), "/out: Permission denied; give the right to"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; make room"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/a/b"), "/a/b: Not a directory; name another place"),
    ],
)
def test_what_the_system_refuses_is_the_users_to_mend(error: OSError, line: str, capsys):
    def main():
        raise error

    assert end_of(main, capsys).startswith(f"error: {line}")


@pytest.mark.parametrize("bug", [KeyError("bug"), FileNotFoundError(errno.ENOENT, "gone", "x"), OSError("odd")])
def test_a_bug_keeps_its_traceback(bug: Exception):
    def main():
        raise bug

    with pytest.raises(type(bug)):
        run_tool(main)


def test_what_a_process_says_keeps_its_lines_and_commands_nothing(capsys):
    def main():
        raise ProcessError('process 1 has failed; python tools/a.py:\n  File "tools/a.py"\nError: \x1b[31m\u202e\tx')

    with pytest.raises(SystemExit) as caught:
        run_tool(main, lambda text: text.replace("python tools/a.py", "mlickd a"))
    assert caught.value.code == 1
    assert capsys.readouterr().err == (
        'error: process 1 has failed; mlickd a:\n  File "tools/a.py"\nError: \\x1b[31m\\u202e   x\n'
    )


def test_the_traceback_commands_nothing(capsys, monkeypatch):
    monkeypatch.setenv("MLICKD_DEBUG", "1")

    def main():
        raise InputError("\x1b[31m.jpg: not found")

    assert "\x1b" not in end_of(main, capsys)


def test_ctrl_c_is_one_line_and_its_status(capsys, monkeypatch):
    def main():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    for debugging in ("", "1"):
        monkeypatch.setenv("MLICKD_DEBUG", debugging)
        with pytest.raises(SystemExit) as caught:
            run_tool(main)
        assert caught.value.code == 130
        *trace, line = capsys.readouterr().err.splitlines()
        assert line == "stopped" and bool(trace) == bool(debugging)


def test_success_is_silent(capsys):
    assert run_tool(lambda: 5) is None
    assert capsys.readouterr() == ("", "")
