"""Write the student of a finished run, with its model card, as a Hugging Face model folder."""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
import timm
import torch
from detectron2.config import CfgNode
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from torch import nn

from mlickd.distillation.teacher_config import load_teacher_config
from mlickd.errors import InputError
from mlickd.evaluation.intervals import bootstrap_metrics, percentile_interval
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.evaluation.score_files import SCORES_FILE, read_scores
from mlickd.files import strict_json, write_atomic
from mlickd.modeling import MultiLabelClassifier
from mlickd.modeling.backbone.timm_backbone import FINAL, TimmBackbone
from mlickd.runs import read_report, report_path

from .exported_classifier import FORMAT
from .hub_folder import CARD, CONFIG, ONNX, TIMM
from .onnx_export import load_student, onnx_content, run_metadata


def write_hub_folder(
    run: str | os.PathLike[str], folder: Path, name: str | None = None, license_id: str | None = None
) -> None:
    """Write a student as a folder for :func:`load_hub_folder`, without paths of this machine or names of datasets.

    The model card shows ``name`` (``user/name`` on the Hub) and the license.

    Raises:
        InputError: the run is not a finished student, the folder is not empty or cannot be written, or a student that
            timm cannot load needs a package of the extra ``export``.
    """
    if folder.is_dir() and any(folder.iterdir()):  # the user may have edited the card
        raise InputError(f"--hub {folder}: is not empty; name a new folder, or leave out --run to upload this one")
    cfg, model, run = load_student(run)
    teacher = None
    with suppress(InputError):  # the student has no teacher, or the teacher is not here
        teacher = load_teacher_config(cfg)
    network, config = _as_timm_model(cfg, model)
    metadata = run_metadata(cfg, run)
    for record in metadata.provenance["data"]:
        del record["name"]
    values = {"format": FORMAT, **asdict(metadata), "test": _test_results(cfg, run, metadata.thresholds)}
    config = json.loads(strict_json({**config, "label_names": metadata.class_names, "mlickd": values}))
    test, name = values["test"], name or folder.resolve().name
    result = {"task_type": "image-classification", "dataset_type": "private", "dataset_name": "test photos"}
    results = [EvalResult(**result, metric_type="mAP", metric_value=round(test["metrics"]["mAP"], 2))] if test else None
    data = ModelCardData(license=license_id, model_name=name.split("/")[-1], eval_results=results)
    details = {"cfg": cfg, "teacher": teacher, "timm": network, "license_id": license_id, **config["mlickd"]}
    details["name"] = name
    card = ModelCard.from_template(data, Path(__file__).with_name("model_card.md"), **details)
    weights = network and safetensors.torch.save(network.state_dict(), {"format": "pt"})
    files = {TIMM: weights} if network else {ONNX: onnx_content(model, metadata, cfg.INPUT.FORMAT)}
    for file, content in {**files, CONFIG: f"{strict_json(config)}\n", CARD: f"{card}\n"}.items():
        write_atomic(folder / file, content, "give another --hub")


def _as_timm_model(cfg: CfgNode, model: MultiLabelClassifier) -> tuple[nn.Module | None, dict]:
    """Return the student as a model of timm, and the part of ``config.json`` that timm reads.

    The model is None if timm's model has other outputs, for instance because it has a layer after the pooling.
    """
    backbone, head, side, classes = model.backbone, model.head, cfg.INPUT.SIZE_TEST, cfg.MODEL.NUM_CLASSES
    if not isinstance(backbone, TimmBackbone) or head.in_feature != FINAL or cfg.INPUT.FORMAT != "RGB":
        return None, {}
    arguments = {"global_pool": {"average": "avg"}.get(head.pooling, head.pooling)}
    images = torch.rand(2, 3, side, side)
    try:
        network = timm.create_model(cfg.MODEL.TIMM.NAME, num_classes=classes, **arguments).eval()
        network.load_state_dict({**network.state_dict(), **backbone.model.state_dict()})
        network.get_classifier().load_state_dict(head.linear.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(network(images), head(backbone(images)), rtol=1e-3, atol=1e-3)
    except Exception:  # timm's classifiers differ in many ways
        return None, {}
    mean, std = ([value / 255 for value in values] for values in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    reading = {"input_size": [3, side, side], "crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bilinear"}
    layers = {key: network.pretrained_cfg.get(key) for key in ("first_conv", "classifier", "fixed_input_size")}
    settings = {**reading, **layers, "mean": mean, "std": std, "num_classes": classes, "pool_size": None}
    config = {"architecture": network.pretrained_cfg["architecture"], "num_classes": classes, "model_args": arguments}
    return network, {**config, "pretrained_cfg": settings}


def _test_results(cfg: CfgNode, run: str, thresholds: Sequence[float]) -> dict | None:
    """Return the results of a student's evaluation at these thresholds, with the 95% intervals of mAP and AP.

    They are None if the student was not evaluated, or if no test photo has a label.
    """
    # Only the first test set, because the student may have been chosen on the others.
    path = report_path(run, cfg.DATASETS.TEST[0])
    if path is None:
        return None
    report, found = read_report(path), read_scores(f"{path.with_name(SCORES_FILE)}")
    if report["metrics"]["mAP"] is None:
        return None
    # The report has the metrics at TEST.THRESHOLD.
    rules = {key: report["protocol"][key] for key in ("topk", "ap")}
    metrics = multilabel_metrics(found.scores, found.targets, threshold=thresholds, **rules)
    resampled = bootstrap_metrics(found.scores, found.targets, ap=rules["ap"], only_ap=True)
    for row, values in zip(report["per_class"].values(), resampled["AP"].T, strict=True):
        row["interval"] = [100 * end for end in percentile_interval(values)]
    return {
        "metrics": {key: 100 * value for key, value in metrics.items() if isinstance(value, float)},
        "mAP_interval": [100 * end for end in percentile_interval(resampled["mAP"])],
        "per_class": report["per_class"],
        "counts": report["counts"],
        "protocol": metrics["protocol"],
        "unknown_labels": int((found.targets == -1).sum()),
        "sha256": found.data_digest(),
    }
