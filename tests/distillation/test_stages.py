"""Teacher, hook and student together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torchvision.ops import roi_pool

from helpers.small_models import CONFIGS, make_batch, save_teacher, student_config, teacher_config
from mlickd.distillation import DistillationHook, LiveTeacher
from mlickd.errors import InputError
from mlickd.modeling import load_checkpoint


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def with_knowledge(cfg) -> list[dict]:
    batch = make_batch()
    for sample, knowledge in zip(batch, LiveTeacher(cfg)(batch), strict=True):
        sample["knowledge"] = knowledge
    return batch


def changed_parameters(cfg, steps: int = 3) -> tuple[set[str], torch.nn.Module, LiveTeacher]:
    """Train with Detectron2's own loop and the hook; names of the parameters that moved."""
    torch.manual_seed(1)
    model = build_model(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    trainer = SimpleTrainer(model, [make_batch() for _ in range(steps)], torch.optim.SGD(parameters, lr=0.01))
    live = LiveTeacher(cfg)
    trainer.register_hooks([DistillationHook(live)])
    trainer.train(0, steps)
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}, model, live


def test_stage_feature_moves_the_convolutions_of_the_student_and_nothing_else(teacher: Path) -> None:
    cfg = student_config(teacher, "feature", "KD.FEATURE.WEIGHT", 0.01)
    changed, model, live = changed_parameters(cfg)
    assert changed == {name for name in model.state_dict() if name.startswith("student.backbone.")}
    weights = torch.load(teacher, weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in live.model.state_dict().items())
    assert not live.model.training and not any(p.requires_grad for p in live.model.parameters())


def test_stage_prediction_moves_every_parameter_of_the_student(teacher: Path) -> None:
    changed, model, live = changed_parameters(student_config(teacher, "prediction"))
    assert changed == set(model.state_dict())
    weights = torch.load(teacher, weights_only=True)["model"]
    assert all(torch.equal(value, weights[name]) for name, value in live.model.state_dict().items())


def test_stage_feature_needs_no_labels_and_no_boxes_of_objects(teacher: Path) -> None:
    cfg = student_config(teacher, "feature")
    batch = with_knowledge(cfg)
    model = build_model(cfg)
    expected = model(batch)["loss_feature"]
    for sample in batch:
        del sample["labels"]
    torch.testing.assert_close(model(batch)["loss_feature"], expected)


def test_a_student_that_equals_its_teacher_has_no_feature_loss(teacher: Path) -> None:
    cfg = student_config(teacher, "feature", "INPUT.SIZES_TRAIN", (64,))
    model = build_model(cfg)
    weights = torch.load(teacher, weights_only=True)["model"]
    backbone = {k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}
    model.student.backbone.load_state_dict(backbone)
    batch = make_batch(side=64, teacher_side=64)
    for sample, knowledge in zip(batch, LiveTeacher(cfg)(batch), strict=True):
        sample["knowledge"] = knowledge
    assert model(batch)["loss_feature"].item() == pytest.approx(0, abs=1e-8)
    with torch.no_grad():
        model.student.backbone.conv5_2.bias += 0.1
    assert model(batch)["loss_feature"].item() > 1e-3


def test_feature_loss_follows_from_maps_and_boxes(teacher: Path) -> None:
    """L_f of the model against Psi, RoI pooling and the equation written out with torch alone."""
    cfg = student_config(teacher, "feature", "KD.FEATURE.WEIGHT", 1.0)
    torch.manual_seed(3)
    model = build_model(cfg)
    batch = with_knowledge(cfg)
    live = LiveTeacher(cfg).model
    expected = 0.0
    with torch.no_grad():
        for sample in batch:
            known = sample["knowledge"]
            teacher_map = live.backbone(live.preprocess([sample["teacher_image"]]).tensor)["conv5"]
            student_map = model.student.backbone(model.student.preprocess([sample["image"]]).tensor)["conv5"]
            psi = torch.nn.functional.interpolate(student_map, size=teacher_map.shape[-2:], mode="bilinear")
            boxes = known.boxes * 2  # the teacher's view is twice the student's
            a = roi_pool(teacher_map, [boxes], 7, 1 / 16) * known.weights[:, None, None, None]
            b = roi_pool(psi, [boxes], 7, 1 / 16) * known.weights[:, None, None, None]
            expected += (a - b).pow(2).sum() / len(boxes) / (2 * len(batch))
        actual = model(batch)["loss_feature"]
    assert actual.item() == pytest.approx(expected.item(), rel=1e-4)


def test_a_batch_of_two_equals_two_batches_of_one(teacher: Path) -> None:
    for stage in ("feature", "prediction"):
        cfg = student_config(teacher, stage)
        model = build_model(cfg)
        batch = with_knowledge(cfg)
        together = sum(model(batch).values())
        apart = sum(sum(model([sample]).values()) for sample in batch) / 2
        torch.testing.assert_close(together, apart)


def test_the_release_compares_behind_fc6_and_fc7(teacher: Path) -> None:
    options = ["KD.FEATURE.COMPARE", "box_head", "KD.FEATURE.RESIZE_TO_TEACHER", False, "KD.FEATURE.WEIGHT", 1.0]
    options += ["KD.REGIONS.NMS_THRESH", 1.0, "KD.REGIONS.TOP_K", 0, "KD.REGIONS.WEIGHT", "uniform"]
    cfg = student_config(teacher, "feature", *options, "MODEL.CLASSIFIER.POOLING", "fc", "MODEL.CLASSIFIER.FC_DIM", 16)
    model = build_model(cfg)
    batch = with_knowledge(cfg)
    loss = model(batch)["loss_feature"]
    loss.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {n for n, _ in model.named_parameters() if n.startswith("student.backbone.")}

    # 1/(2N) sum_n 1/|R_n| sum_R || fc7^T(s RoIPool(F^T)) - fc7^S(s RoIPool(F^S)) ||^2 over all proposals
    live, student = LiveTeacher(cfg).model, model.student.eval()
    expected = 0.0
    with torch.no_grad():
        for sample in batch:
            vectors = []
            for net, head, prefix in (
                (live, live.roi_heads.box_head, "teacher_"),
                (student, student.head.fully_connected, ""),
            ):
                proposals = sample[f"{prefix}proposals"]
                feature_map = net.backbone(net.preprocess([sample[f"{prefix}image"]]).tensor)["conv5"]
                pooled = roi_pool(feature_map, [proposals.proposal_boxes.tensor], 7, 1 / 16)
                vectors.append(head(pooled * proposals.objectness[:, None, None, None]))
            expected += (vectors[0] - vectors[1]).pow(2).sum() / len(proposals) / (2 * len(batch))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    with pytest.raises(InputError, match="POOLING fc"):
        build_model(student_config(teacher, "feature", *options))


def test_an_adapter_joins_maps_of_other_widths_and_learns_along(teacher: Path) -> None:
    cfg = student_config(teacher, "feature", "MODEL.VGG.WIDTH", 0.2)
    model = build_model(cfg)
    model(with_knowledge(cfg))["loss_feature"].backward()
    adapters = {n for n, p in model.named_parameters() if n.startswith("feature_distiller.") and p.grad is not None}
    assert adapters == {"feature_distiller.layers.0.adapter.weight", "feature_distiller.layers.0.adapter.bias"}


def test_several_layers_add_up(tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.MODEL.VGG.OUT_FEATURES = ("conv4", "conv5")
    path = save_teacher(tmp_path, cfg)
    losses = {}
    for layers in (("conv5:conv5",), ("conv4:conv4",), ("conv5:conv5", "conv4:conv4")):
        student = student_config(path, "feature", "KD.FEATURE.LAYERS", layers)
        student.merge_from_list(["MODEL.VGG.OUT_FEATURES", ("conv4", "conv5"), "MODEL.CLASSIFIER.IN_FEATURE", "conv5"])
        torch.manual_seed(5)
        losses[layers] = build_model(student)(with_knowledge(student))["loss_feature"].item()
    *single, both = losses.values()
    assert both == pytest.approx(sum(single), rel=1e-5)


def test_the_teacher_is_softened_by_its_temperature(teacher: Path) -> None:
    from mlickd.modeling.roi_heads import region_scores

    cfg = student_config(teacher, "prediction", "KD.PREDICTION.TEACHER_TEMPERATURE", 0.5)
    batch = make_batch()
    live = LiveTeacher(cfg)
    known = live(batch)
    with torch.no_grad():
        _, regions = live.model.predict_regions(
            [s["teacher_image"] for s in batch], [s["teacher_proposals"] for s in batch]
        )
    first = regions.counts[0]
    expected = region_scores(regions.class_logits[:first] * 2, regions.detection_logits[:first] * 2).sum(dim=0)
    torch.testing.assert_close(known[0].image_scores, expected)


def test_the_student_alone_gives_the_same_scores_in_the_plain_classifier(teacher: Path, tmp_path: Path) -> None:
    cfg = student_config(teacher, "prediction")
    model = build_model(cfg).eval()
    torch.save({"model": model.student.state_dict()}, tmp_path / "student.pth")
    plain_cfg = cfg.clone()
    plain_cfg.MODEL.META_ARCHITECTURE = "MultiLabelClassifier"
    plain = build_model(plain_cfg).eval()
    load_checkpoint(plain, str(tmp_path / "student.pth"), "MODEL.WEIGHTS")
    batch = make_batch()
    with torch.no_grad():
        for a, b in zip(model(batch), plain(batch), strict=True):
            assert torch.equal(a["image_scores"], b["image_scores"])
            assert ((a["image_scores"] > 0) & (a["image_scores"] < 1)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("KD.STAGE", "both"), "KD.STAGE 'both'"),
        (("KD.FEATURE.LAYERS", ("conv9:conv5",)), "teacher's backbone does not return 'conv9'; name one of conv5"),
        (("KD.FEATURE.LAYERS", ("conv5",)), "<teacher layer>:<student layer>"),
        (("KD.FEATURE.DISTILLER", "Nobody"), "'Nobody' is none of .*RoIDistiller"),
        (("KD.FEATURE.COMPARE", "logits"), "'logits' is none of pooled, box_head"),
        (("KD.TEACHER.WEIGHTS", ""), "KD.TEACHER.WEIGHTS is empty"),
        (("KD.TEACHER.WEIGHTS", "nowhere/model.pth"), "nowhere/config.yaml: no such file"),
        (("KD.TEACHER.CONFIG_FILE", str(CONFIGS / "cls_vgg16.yaml")), "a MultiLabelClassifier is no teacher"),
        (("MODEL.NUM_CLASSES", 3), "the teacher has 5 classes, the student 3"),
    ],
)
def test_what_does_not_fit_is_named(teacher: Path, options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(student_config(teacher, "feature", *options))


def test_unknown_prediction_options_are_named(teacher: Path) -> None:
    with pytest.raises(InputError, match="KD.PREDICTION.LOSS 'kl'"):
        build_model(student_config(teacher, "prediction", "KD.PREDICTION.LOSS", "kl"))
    with pytest.raises(InputError, match="'Nobody' is none of HintonDistiller, MLDDistiller, SoftLabel"):
        build_model(student_config(teacher, "prediction", "KD.PREDICTION.DISTILLER", "Nobody"))


def test_an_incomplete_teacher_stops_the_run(teacher: Path, tmp_path: Path) -> None:
    weights = torch.load(teacher, weights_only=True)["model"]
    del weights["roi_heads.class_stream.bias"]
    (tmp_path / "config.yaml").write_text(teacher_config().dump())
    torch.save({"model": weights}, tmp_path / "model_final.pth")
    with pytest.raises(InputError, match=r"KD.TEACHER.WEIGHTS .* missing: roi_heads.class_stream.bias"):
        LiveTeacher(student_config(tmp_path / "model_final.pth", "prediction"))


def test_losses_are_logged(teacher: Path) -> None:
    cfg = student_config(teacher, "prediction")
    with EventStorage() as storage:
        SimpleTrainer.write_metrics(build_model(cfg)(with_knowledge(cfg)), 0.0, 0)
        assert {"loss_label", "loss_soft_label", "total_loss"} <= storage.latest().keys()
