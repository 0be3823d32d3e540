"""The page of `mlickd demo`, as a user starts and uses it in a headless Chromium."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the folder of a seed with an untrained student and teacher."""
    folder = tmp_path_factory.mktemp("runs")
    write_class_names(write_untrained_run(folder / "distilled/prediction"), CATEGORY_NAMES)
    write_untrained_teacher(folder / "teacher")
    return folder


@contextmanager
def opened_demo(folder: Path, *options: object) -> Iterator:
    """Start the command and open its page; at the end press Ctrl-C, and check that no request left this machine."""
    pytest.importorskip("gradio", reason="needs Gradio: pip install 'mlickd[demo]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # An outside request of the process would fail, because nothing listens on the port of the proxy.
    environment = {**os.environ, "TMPDIR": str(folder), "http_proxy": "http://127.0.0.1:9", "DETECTRON2_DATASETS": "no"}
    command = [sys.executable, "-m", "mlickd", "demo", "--port", str(port), *map(str, options)]
    with (
        chromium() as browser,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert f"http://127.0.0.1:{port}" in process.stdout.readline()
            assert [path.name[:12] for path in folder.iterdir()] == ["mlickd-demo-"]
            page, requests = browser.new_page(), []
            page.on("request", lambda request: requests.append(request.url))
            page.goto(f"http://127.0.0.1:{port}")
            yield page
            assert {url.split("/")[2] for url in requests if not url.startswith(("data:", "blob:"))} == {
                f"127.0.0.1:{port}"
            }
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0 and not list(folder.iterdir()), "the photos are deleted"
        finally:
            process.kill()


def download(page, path: Path) -> dict[str, list[str]]:
    with page.expect_download() as found:
        page.get_by_role("button", name="Download").click()
    found.value.save_as(path)
    return {name: labels for _, name, labels, _ in read_table(path, CATEGORY_NAMES).rows}


def test_photos_are_shown_corrected_and_downloaded(runs: Path, tiny_scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    names = ["a.jpg", "b <i>&amp; ${1}, #(1).jpg", "broken.jpg", "é.jpg"]
    for name, source in zip(names, sorted((tiny_scenes / "tiny/images").glob("test_*.jpg")), strict=False):
        (tmp_path / name).write_bytes(source.read_bytes()[: 100 if name == "broken.jpg" else None])
    names.remove("broken.jpg")
    model = load_model(runs / "distilled/prediction")
    expected = {name: sorted(model.predict(tmp_path / name).labels, key=CATEGORY_NAMES.index) for name in names}
    with opened_demo(tmp_path / "temporary", "--model", runs, "--teacher", runs) as page:
        page.set_input_files("input[type=file]", [tmp_path / "broken.jpg", *(tmp_path / name for name in names)])
        page.get_by_text("Left out: broken.jpg").wait_for(timeout=60000)
        until(page, CAPTIONS, [", ".join(labels) or "no label" for labels in expected.values()])
        page.locator(".thumbnail-item").nth(1).click()
        page.get_by_text(names[1]).wait_for()
        assert download(page, tmp_path / "labels.csv") == expected
        sources = [page.evaluate(SOURCE)]
        for view in "Activation map", "Regions":
            page.get_by_label(view).check()
            until(page, f"{sources}.includes({SOURCE})", False)
            sources.append(page.evaluate(SOURCE))
        wrong, missing = expected[names[1]][0], next(name for name in CATEGORY_NAMES if name not in expected[names[1]])
        for name in wrong, missing:
            page.get_by_label(name, exact=True).click()
        expected[names[1]] = sorted([*expected[names[1]][1:], missing], key=CATEGORY_NAMES.index)
        until(page, CAPTIONS, [", ".join(labels) or "no label" for labels in expected.values()])
        assert download(page, tmp_path / "labels.csv") == expected


@pytest.mark.slow
def test_200_photos_and_an_exported_student(runs: Path, tiny_scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    export_student(runs / "distilled/prediction", tmp_path / "student.onnx")
    sources = sorted((tiny_scenes / "tiny/images").glob("*.jpg"))
    photos = [Path(shutil.copy(sources[i % len(sources)], tmp_path / f"{i}.jpg")) for i in range(200)]
    photos[7].write_bytes(b"broken")
    with opened_demo(tmp_path / "temporary", "--model", tmp_path / "student.onnx") as page:
        page.set_input_files("input[type=file]", photos)
        page.get_by_text("Left out: 7.jpg").wait_for(timeout=120000)
        until(page, f"{CAPTIONS}.length", 199)
        assert page.get_by_label("Activation map").count() == 0
        assert len(download(page, tmp_path / "labels.csv")) == 199


def test_without_gradio(call_tool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    call_tool("demo", "--model", "student.onnx").assert_ends_in_one_line("mlickd[demo]")
