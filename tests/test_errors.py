from __future__ import annotations

import pytest

from mlickd.errors import InputError, run_tool


def test_an_input_error_is_one_line_and_status_2(capsys):
    def main():
        raise InputError("labels.csv: line 3:\n  no such label")

    with pytest.raises(SystemExit) as caught:
        run_tool(main)
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert output.err == "error: labels.csv: line 3: no such label\n" and output.out == ""


def test_a_bug_keeps_its_traceback():
    def main():
        raise KeyError("bug")

    with pytest.raises(KeyError):
        run_tool(main)


def test_success_is_silent(capsys):
    assert run_tool(lambda: 5) is None
    assert capsys.readouterr() == ("", "")
