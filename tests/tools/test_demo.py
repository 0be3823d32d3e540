"""The page of `mlickd demo`, as a user starts and uses it in a headless Chromium."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from helpers.browser import chromium, until
from helpers.untrained_run import write_untrained_run, write_untrained_teacher
from mlickd.data.scenes import CATEGORY_NAMES
from mlickd.data.sources.label_files import read_table
from mlickd.export.onnx_export import export_student
from mlickd.prediction import load_model
from mlickd.runs import write_class_names

CAPTIONS = "[...document.querySelectorAll('.thumbnail-item')].map((item) => item.innerText)"
SOURCE = "document.querySelector('#photo img').src"


@contextmanager
def opened_demo(folder: Path, *options: object) -> Iterator:
    """Start the command and open its page; at the end press Ctrl-C, and check that no request left this machine."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'mlickd[demo]'")
    (temporary := folder / "temporary").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # A request of the command to another machine would fail, because nothing listens on the port of the proxy.
    environment = os.environ | {"TMPDIR": str(temporary), "http_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mlickd", "demo", "--port", str(port), *map(str, options)]
    with (
        chromium() as browser,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert (
                f"http://127.0.0.1:{port}" in process.stdout.readline() and len([*temporary.glob("mlickd-demo-*")]) == 1
            )
            page, hosts = browser.new_page(), set()
            page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            page.goto(f"http://127.0.0.1:{port}")
            yield page
            assert hosts - {""} == {f"127.0.0.1:{port}"}, "a data: or blob: address has no host"
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0 and not list(temporary.glob("mlickd-*")), "the photos are deleted"
        finally:
            process.kill()


def wait_for_labels(page, labels: dict[str, list[str]], checked: set[str], path: Path) -> None:
    """Wait until the captions have these labels, and the downloaded table has those of the checked photos."""
    texts = {name: ", ".join(found) or "no label" for name, found in labels.items()}
    until(page, CAPTIONS, [f"✓ {text}" if name in checked else text for name, text in texts.items()])
    with page.expect_download() as found:
        page.get_by_role("button", name="Download").click()
    found.value.save_as(path)
    assert {name: names for _, name, names, _ in read_table(path, CATEGORY_NAMES).rows} == {
        name: labels[name] for name in checked
    }


def test_photos_are_shown_corrected_and_downloaded(tiny_scenes: Path, tmp_path: Path) -> None:
    write_class_names(write_untrained_run(tmp_path / "distilled/prediction"), CATEGORY_NAMES)
    write_untrained_teacher(tmp_path / "teacher")
    (tmp_path / "broken.jpg").write_bytes(b"broken")
    photos = [tmp_path / name for name in ("a.jpg", "b <i>&amp; ${1}, #(1).jpg", "é.jpg")]
    for photo, source in zip(photos, sorted((tiny_scenes / "tiny/images").glob("test_*.jpg")), strict=False):
        photo.write_bytes(source.read_bytes())
    second, model = photos[1].name, load_model(tmp_path / "distilled/prediction")
    labels = {photo.name: sorted(model.predict(photo).labels, key=CATEGORY_NAMES.index) for photo in photos}
    with opened_demo(tmp_path, "--model", tmp_path, "--teacher", tmp_path / "teacher") as page:
        page.set_input_files("input[type=file]", [tmp_path / "broken.jpg", *photos])
        page.get_by_text("Skipped: broken.jpg").wait_for(timeout=60000)
        wait_for_labels(page, labels, set(), tmp_path / "labels.csv")
        page.get_by_role("button", name="All labels are right").click()
        wait_for_labels(page, labels, {photos[0].name}, tmp_path / "labels.csv")
        page.locator(".thumbnail-item").nth(1).click()
        page.locator("#photo").get_by_text(second).wait_for()
        for view in "Activation map", "Regions":
            before = page.evaluate(SOURCE)
            page.get_by_label(view).check()
            until(page, f"{SOURCE} != {before!r}")
        missing = next(name for name in CATEGORY_NAMES if name not in labels[second])
        for name in labels[second][0], missing:
            page.get_by_label(name, exact=True).click()
        labels[second] = sorted([*labels[second][1:], missing], key=CATEGORY_NAMES.index)
        wait_for_labels(page, labels, {photos[0].name, second}, tmp_path / "labels.csv")


@pytest.mark.slow
def test_200_photos_and_an_exported_student(tiny_scenes: Path, tmp_path: Path) -> None:
    write_class_names(write_untrained_run(tmp_path / "student"), CATEGORY_NAMES)
    export_student(tmp_path / "student", tmp_path / "student.onnx")
    photo = next((tiny_scenes / "tiny/images").glob("*.jpg")).read_bytes()
    photos = [tmp_path / f"{number}.jpg" for number in range(200)]
    for path in photos:
        path.write_bytes(photo[: 100 if path.name == "7.jpg" else None])
    with opened_demo(tmp_path, "--model", tmp_path / "student.onnx") as page:
        page.set_input_files("input[type=file]", photos)
        page.get_by_text("Skipped: 7.jpg").wait_for(timeout=120000)
        until(page, f"{CAPTIONS}.length", 199)
        assert page.get_by_label("Activation map").count() == 0


def test_without_gradio(call_tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    call_tool("demo", "--model", "student.onnx").assert_ends_in_one_line("mlickd[demo]")


@pytest.mark.parametrize(("option", "value"), [("--port", "70000"), ("--host", "no.host.invalid")])
def test_a_wrong_address_is_one_line(call_tool, option: str, value: str) -> None:
    pytest.importorskip("gradio")
    call_tool("demo", "--model", "student.onnx", option, value).assert_ends_in_one_line(f"{option} {value}")


def test_a_student_is_not_a_teacher(tiny_scenes: Path, call_tool, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    write_class_names(write_untrained_run(tmp_path / "student"), CATEGORY_NAMES)
    options = ("--model", tmp_path / "student", "--teacher", tmp_path / "student")
    call_tool("demo", *options).assert_ends_in_one_line(f"--teacher {tmp_path / 'student'}: is not a teacher")
