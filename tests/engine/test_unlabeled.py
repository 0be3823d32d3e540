"""Training on images without labels: DATASETS.UNLABELED."""

import shutil
from itertools import islice
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from helpers.cached_scenes import CachedScenes
from helpers.small_models import save_teacher, student_config, with_knowledge
from helpers.small_trainer import finish
from mlickd.data import build_train_loader, dataset_records
from mlickd.data.build import labeled_fraction, training_datasets
from mlickd.engine import Trainer, check_inputs
from mlickd.errors import InputError

LABELED, UNLABELED = "tiny_train@1of4", "tiny_train@not1of4"


def unlabeled_options(scenes: CachedScenes) -> list[object]:
    store = (str(scenes.proposals),)
    options = ["DATASETS.TRAIN", (LABELED,), "DATASETS.UNLABELED", (UNLABELED,)]
    return [*options, "DATASETS.PROPOSALS.TRAIN_FILES", store, "DATASETS.PROPOSALS.UNLABELED_FILES", store]


@pytest.fixture(scope="module")
def cache(scenes: CachedScenes) -> Path:
    return scenes.make("unlabeled", *unlabeled_options(scenes))


def test_only_labeled_samples_have_labels(scenes: CachedScenes, cache: Path) -> None:
    cfg = scenes.config("prediction", cache, *unlabeled_options(scenes), "DATALOADER.NUM_WORKERS", 1)
    assert training_datasets(cfg) == (LABELED, UNLABELED) and labeled_fraction(cfg) == 0.25
    epoch = [sample for batch in islice(build_train_loader(cfg), 6) for sample in batch]
    seen = {}
    for name in (LABELED, UNLABELED):
        samples = [sample for sample in epoch if sample["dataset"] == name]
        assert all(("labels" in sample) == (name == LABELED) for sample in samples)
        assert not any("ignored_labels" in sample for sample in samples)
        seen[name] = sorted(sample["image_id"] for sample in samples)
    assert seen == {name: sorted(record["image_id"] for record in dataset_records(name)) for name in seen}


def test_the_share_of_unlabeled_images_is_kept_and_changes_nothing_without_them(scenes: CachedScenes, cache: Path):
    def first_batches(*options: object) -> list[list[dict]]:
        return list(islice(build_train_loader(scenes.config("prediction", cache, *options)), 6))

    share = ("DATASETS.UNLABELED_SHARE", 0.5)
    assert labeled_fraction(scenes.config("prediction", cache, *unlabeled_options(scenes), *share)) == 0.5
    for batch in first_batches(*unlabeled_options(scenes), *share):
        assert sum("labels" in sample for sample in batch) == len(batch) / 2
    assert labeled_fraction(scenes.config("prediction", cache, *share)) == 1
    with_share, without = ([[s["image_id"] for s in batch] for batch in first_batches(*o)] for o in (share, ()))
    assert with_share == without


@pytest.fixture
def half_labeled(tmp_path: Path) -> tuple[nn.Module, list[dict]]:
    """Return a student in stage 2 for a half-labeled dataset, and a batch of four images, three with labels."""
    options = ["KD.PREDICTION.WEIGHT", 2.0, "KD.PREDICTION.FEATURE_LOSS", True]
    cfg = student_config(save_teacher(tmp_path), "prediction", *options)
    model = build_model(cfg)
    model.labeled_fraction = 0.5
    batch = with_knowledge(cfg, 4)
    del batch[1]["labels"]
    return model, batch


def test_only_the_label_loss_leaves_out_unlabeled_images(half_labeled: tuple[nn.Module, list[dict]]) -> None:
    model, batch = half_labeled
    whole = model(batch)
    parts = [model(batch[:2]), model(batch[2:])]
    for name, loss in whole.items():
        torch.testing.assert_close((parts[0][name] + parts[1][name]) / 2, loss)
    without = model([{k: v for k, v in sample.items() if k != "labels"} for sample in batch])
    torch.testing.assert_close(without["loss_feature"], whole["loss_feature"])

    # On average, two of four images have labels; here, three.
    model.labeled_fraction = 1.0
    labeled = [sample for sample in batch if "labels" in sample]
    torch.testing.assert_close(whole["loss_label"], model(labeled)["loss_label"] * 3 / 2)


def test_a_sample_without_labels_only_trains_on_knowledge(half_labeled: tuple[nn.Module, list[dict]]) -> None:
    model, batch = half_labeled
    losses = model(batch[1:2])
    assert losses["loss_label"].item() == 0 and losses["loss_soft_label"].item() > 0
    sum(losses.values()).backward()
    assert model.student.head.linear.weight.grad.abs().sum() > 0
    model.labeled_fraction = 1.0
    for classifier in (model, model.student):
        with pytest.raises(KeyError, match="labels"):
            classifier(batch)


def change_labels(root: Path, name: str) -> None:
    """Give all images of a dataset another label."""
    file_names = {Path(record["file_name"]).name for record in dataset_records(name)}
    path = root / "tiny" / "labels_train.csv"
    lines = path.read_text().splitlines()
    changed = [line.split(",")[0] + ",house" if line.split(",")[0] in file_names else line for line in lines]
    assert changed != lines
    path.write_text("\n".join(changed) + "\n")


def trained(scenes: CachedScenes, cache: Path, output: Path, stage: str) -> dict[str, torch.Tensor]:
    """Return the weights after three iterations."""
    options = ["OUTPUT_DIR", str(output), "SOLVER.MAX_ITER", 3, "SOLVER.WARMUP_ITERS", 1, "KD.FEATURE.WEIGHT", 0.001]
    cfg = scenes.config(stage, cache, *unlabeled_options(scenes), *options)
    check_inputs(cfg)
    torch.manual_seed(0)
    return finish(Trainer(cfg))


@pytest.mark.parametrize("stage", ["feature", "prediction"])
def test_labels_of_unlabeled_images_are_never_read(scenes, cache, tiny_scenes, tmp_path, monkeypatch, stage) -> None:
    before = trained(scenes, cache, tmp_path / "before", stage)
    equal = {}
    for name in (UNLABELED, LABELED):
        root = tmp_path / name
        shutil.copytree(tiny_scenes / "tiny", root / "tiny")
        change_labels(root, name)
        monkeypatch.setenv("DETECTRON2_DATASETS", str(root))
        assert {tuple(record["labels"]) for record in dataset_records(name)} == {(0,)}
        weights = trained(scenes, cache, root / "output", stage)
        equal[name] = all(torch.equal(value, before[key]) for key, value in weights.items())
        monkeypatch.setenv("DETECTRON2_DATASETS", str(tiny_scenes))
    # Stage 1 does not read any labels.
    assert equal == {UNLABELED: True, LABELED: stage == "feature"}


def test_an_image_with_and_without_labels_is_refused(scenes: CachedScenes, cache: Path) -> None:
    cfg = scenes.config("prediction", cache, *unlabeled_options(scenes), "DATASETS.UNLABELED", ("tiny_train",))
    with pytest.raises(InputError, match=r"DATASETS.UNLABELED: image .* of tiny_train .*tiny_train@1of4"):
        check_inputs(cfg)
