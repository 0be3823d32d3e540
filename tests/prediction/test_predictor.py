"""Models and predictions in Python, as a user writes it in a notebook."""

import doctest
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

import mlickd
from helpers.untrained_run import split_tiny_scenes, write_untrained_run
from mlickd.data import dataset_records
from mlickd.decoding import read_image
from mlickd.errors import InputError
from mlickd.evaluation.score_files import read_scores
from mlickd.prediction import Prediction, Predictor, load_model
from mlickd.studies.threshold_tuning import tune_thresholds
from mlickd.thresholds import read_thresholds


@pytest.fixture(scope="module")
def tuned_run(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write a run with thresholds tuned on `tiny_val`, and the scores of this evaluation."""
    root = split_tiny_scenes(tiny_scenes, tmp_path_factory.mktemp("split"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(root))
        run = write_untrained_run(tmp_path_factory.mktemp("runs") / "student")
        tune_thresholds(run, "tiny_val")
        yield run


@pytest.fixture(scope="module")
def model(tuned_run: Path) -> Predictor:
    return mlickd.load_model(tuned_run)


@pytest.fixture(scope="module")
def photos(tuned_run: Path) -> list[str]:
    """Return the files of `tiny_val` in the order of its scores."""
    return [record["file_name"] for record in dataset_records("tiny_val")]


def test_scores_agree_with_the_evaluation(model, tuned_run: Path, photos: list[str]) -> None:
    tuned = read_thresholds(str(tuned_run / "thresholds.json")).thresholds
    written = read_scores(str(tuned_run / "evaluation/inference/tiny_val/image_scores.npz"))
    predictions = model.predict(photos, batch_size=3)
    assert model.class_names == tuple(written.class_names)
    assert np.ptp(written.scores, axis=0).max() > 0.01, "the photos have to differ"
    np.testing.assert_allclose([found.values for found in predictions], written.scores, atol=2e-6)
    for found, scores in zip(predictions, written.scores, strict=True):
        reached = {name for name, score, t in zip(model.class_names, scores, tuned, strict=True) if score >= t}
        assert set(found.labels) == reached
        ranked = sorted(found.scores, key=found.scores.get, reverse=True)
        assert found.top(3) == [(name, found.scores[name]) for name in ranked[:3]]


def test_paths_images_and_arrays_give_the_same_upright_predictions(model, photos: list[str], tmp_path: Path) -> None:
    # Lossless, and too small for reduced decoding, so all have the same pixels.
    pixels, exif = read_image(photos[0]), Image.Exif()
    exif[0x0112] = 6  # rotate clockwise
    path = tmp_path / "photo.png"
    Image.fromarray(np.rot90(pixels)).save(path, exif=exif)
    by_path = model.predict(path)
    with Image.open(path) as image:
        others = model.predict([image, pixels, str(path)])
    assert [found.name for found in others] == ["image 1", "image 2", str(path)]
    for found in others:
        np.testing.assert_allclose(found.values, by_path.values, atol=2e-6)
    assert model.predict([]) == []


def test_a_prediction_shows_all_labels_as_text() -> None:
    values, thresholds = np.array([0.4, 0.3, 0.2, 0.1, 0.05]), np.array([0.5, 0.5, 0.5, 0.1, 0.5])
    found = Prediction("a<b.jpg", ("<i>cat</i>", "dog", "cow", "ant", "bee"), values, thresholds)
    assert repr(found) == "<Prediction a<b.jpg: ant 0.10>"
    page = found._repr_html_()
    assert "a&lt;b.jpg" in page and "<i>" not in page
    assert "ant" in page and "bee" not in page, "a label below the best three is shown"


def test_threads_share_a_batch_in_order(model: Predictor, photos: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [found.values for found in model.predict(photos)]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    try:
        found = [found.values for found in model.predict(photos, batch_size=len(photos))]
    finally:
        torch.set_num_threads(1)  # the prediction sets the number that it found
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_one_bad_photo_leaves_the_others(model: Predictor, photos: list[str], tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(Path(photos[0]).read_bytes()[:-900])
    damaged, other = Image.open(tmp_path / "bad.jpg"), Image.new("RGB", (4, 4))
    other.convert = Mock(side_effect=RuntimeError("as from Pillow's decoder of AVIF"))
    mixed = [tmp_path / "none.jpg", photos[0], tmp_path / "bad.jpg", np.zeros((4, 4)), photos[1], 7, damaged, other]
    found = list(model.predict_each(mixed, batch_size=2))
    names = {0: "none.jpg", 2: "bad.jpg", 3: "image 4", 5: "image 6", 6: "image 7", 7: "image 8"}
    for number, one in enumerate(found):
        assert type(one) is (InputError if number in names else Prediction)
        assert names.get(number, "") in str(one)
    with pytest.raises(InputError, match="none.jpg"):
        model.predict(mixed)


def test_given_thresholds_replace_those_of_the_run(tuned_run: Path, tmp_path: Path) -> None:
    file = tuned_run / "thresholds.json"
    tuned = read_thresholds(str(file)).thresholds
    for given, expected in ((None, tuned), (0.25, [0.25] * 20), (tuned[::-1], tuned[::-1]), (file, tuned)):
        assert load_model(tuned_run, thresholds=given).thresholds.tolist() == pytest.approx(expected)
    shutil.copy(tuned_run / "model_final.pth", tmp_path / "model_0000049.pth")
    early = load_model(tmp_path / "model_0000049.pth", tuned_run / "config.yaml")
    assert set(early.thresholds) == {np.float32(0.4)} and "thresholds.json" in early.thresholds_from


def test_a_checkpoint_of_a_distillation_predicts_like_its_student(model, tuned_run: Path, photos, tmp_path) -> None:
    content = torch.load(tuned_run / "model_final.pth", weights_only=True)["model"]
    wrapped = {f"student.{key}": value for key, value in content.items()} | {"distillers.0.weight": torch.ones(2)}
    torch.save({"model": wrapped}, tmp_path / "copied.pth")
    found = load_model(tmp_path / "copied.pth", tuned_run / "config.yaml").predict(photos[0])
    np.testing.assert_allclose(found.values, model.predict(photos[0]).values, atol=2e-6)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("nowhere", {}, "nowhere"),
        (".", {}, "config.yaml: no such file"),
        ("model.onnx", {"config": "config.yaml"}, "config config.yaml: model.onnx"),
        ("run", {"config": "config.yaml"}, "config config.yaml: run"),
        ("run", {"thresholds": 50}, "thresholds 50: .* 20 classes"),
        ("run", {"thresholds": [0.1, 0.2]}, r"thresholds \[0.1, 0.2\]: .* 20 classes"),
        ("run", {"thresholds": [[0.1], [0.2, 0.3]]}, r"thresholds \[\[0.1.* 20 classes"),
        ("run", {"thresholds": "none.json"}, "none.json"),
    ],
)
def test_wrong_arguments_are_named(tuned_run: Path, tmp_path: Path, monkeypatch, source, options, message) -> None:
    (tmp_path / "run").symlink_to(tuned_run)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        load_model(source, **options)


def test_the_examples_of_the_documentation_run(tuned_run: Path, photos, tmp_path: Path, monkeypatch, capsys) -> None:
    pytest.importorskip("onnxscript")
    folder = tmp_path / "output/quickstart/seed1/distilled"
    folder.mkdir(parents=True)
    (folder / "prediction").symlink_to(tuned_run)
    (tmp_path / "output/holiday").symlink_to(tuned_run)
    shutil.copy(photos[0], tmp_path / "photo.jpg")
    shutil.copy(photos[1], tmp_path / "another.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder().find(load_model, globs={})
    values = {}
    for line in example.examples:
        exec(compile(line.source, "<example>", "single"), values)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (readme_example,) = [block for block in re.findall(r"```python\n(.*?)```", readme, re.S) if "load_model" in block]
    capsys.readouterr()
    exec(compile(readme_example, "README.md", "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2
