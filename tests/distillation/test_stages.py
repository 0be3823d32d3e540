"""The student trains with the hook, the teacher and each distiller."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling import build_model
from torchvision.ops import roi_pool

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config, tensors_of, with_knowledge
from mlickd.distillation import DistillationHook, LiveTeacher, TeacherKnowledge
from mlickd.engine.check_config import check_config
from mlickd.errors import InputError

FITNETS = ("KD.FEATURE.DISTILLER", "FitNetsDistiller")
ATTENTION = ("KD.FEATURE.DISTILLER", "AttentionTransferDistiller")
FEATURE_LOSS = ("KD.PREDICTION.FEATURE_LOSS", True, "KD.PREDICTION.WEIGHT", 0.0)
LED = ("KD.FEATURE.DISTILLER", "LabelEmbeddingDistiller", *FEATURE_LOSS, "MODEL.CLASSIFIER.POOLING", "max")
# Stage, options and loss of each method.
METHODS = {
    "regions": ("feature", ("KD.FEATURE.WEIGHT", 0.01), "loss_feature"),
    "fitnets": ("feature", FITNETS, "loss_feature"),
    "attention transfer in stage 1": ("feature", ATTENTION, "loss_feature"),
    "attention transfer": ("prediction", (*ATTENTION, *FEATURE_LOSS), "loss_feature"),
    "soft labels": ("prediction", (), "loss_soft_label"),
    "hinton": ("prediction", ("KD.PREDICTION.DISTILLER", "HintonDistiller"), "loss_soft_label"),
    "led": ("prediction", LED, "loss_feature"),
}


def feature_map(model: torch.nn.Module, image: torch.Tensor, name: str = "conv5") -> torch.Tensor:
    return model.backbone(model.preprocess([image]).tensor)[name]


@pytest.mark.parametrize("name", METHODS)
def test_a_stage_trains_its_part_of_the_student_in_the_loop_of_detectron2(teacher: Path, name: str) -> None:
    stage, options, loss_name = METHODS[name]
    cfg = student_config(teacher, stage, *options)
    torch.manual_seed(1)
    model = build_model(cfg)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = [p for p in model.parameters() if p.requires_grad]
    batch = make_batch(count=4)  # the structure loss of only two images is always 0
    for sample in batch if stage == "feature" else []:
        del sample["labels"]
    trainer = SimpleTrainer(model, [batch] * 2, torch.optim.SGD(parameters, lr=0.01))
    live = LiveTeacher(cfg)
    trainer.register_hooks([DistillationHook(live)])
    trainer.train(0, 2)
    losses = model(batch)
    assert torch.isfinite(losses[loss_name]) and losses[loss_name].item() > 0
    assert set(losses) == ({loss_name} if stage == "feature" else {loss_name, "loss_label"})
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    backbone = {name for name in before if name.startswith("student.backbone.")}
    assert changed == (backbone if stage == "feature" else set(before))

    assert not any(tensor.requires_grad for sample in batch for tensor in tensors_of(sample["knowledge"]))
    weights, frozen = torch.load(teacher, weights_only=True)["model"], live.teacher.model
    assert all(torch.equal(value, weights[name]) for name, value in frozen.state_dict().items())
    assert not frozen.training and not any(p.requires_grad for p in frozen.parameters())


def region_distance(known: TeacherKnowledge, large: torch.Tensor, small: torch.Tensor) -> float:
    """Return the paper's distance of the regions of an image."""
    resized = torch.nn.functional.interpolate(small, size=large.shape[-2:], mode="bilinear")
    boxes = known.boxes * 2  # the teacher's view is twice as large as the student's
    scale = large.shape[-1] / 64
    difference = roi_pool(large, [boxes], 7, scale) - roi_pool(resized, [boxes], 7, scale)
    return (difference * known.region_weights[:, None, None, None]).pow(2).sum().item() / len(boxes)


def hint_distance(_: TeacherKnowledge, large: torch.Tensor, small: torch.Tensor) -> float:
    resized = torch.nn.functional.interpolate(small, size=large.shape[-2:], mode="bilinear")
    return (large - resized).pow(2).sum().item() / large[0, 0].numel()


def attention_distance(_: TeacherKnowledge, large: torch.Tensor, small: torch.Tensor) -> float:
    """Return the distance after the teacher's attention is pooled to the student's size; both have norm 1."""
    attention = [x[0].pow(2).sum(dim=0).numpy() for x in (large, small)]
    first, second = (x / np.linalg.norm(x) for x in attention)
    first = first.reshape(second.shape[0], 2, second.shape[1], 2).mean((1, 3))
    return float(np.linalg.norm(first / np.linalg.norm(first) - second))


@pytest.mark.parametrize("layer", ["conv5", "conv4"])  # the heads of the teacher pool the regions of conv5 only
@pytest.mark.parametrize(
    ("options", "distance"), [((), region_distance), (FITNETS, hint_distance), (ATTENTION, attention_distance)]
)
def test_feature_losses_follow_from_the_maps_of_both_models(
    tmp_path: Path, options: tuple, distance: Callable, layer: str
) -> None:
    outputs = ("MODEL.VGG.OUT_FEATURES", ("conv4", "conv5"), "MODEL.CLASSIFIER.IN_FEATURE", "conv5")
    teacher_cfg = teacher_config()
    teacher_cfg.merge_from_list(list(outputs))
    teacher = save_teacher(tmp_path, teacher_cfg)
    layers = ("KD.FEATURE.WEIGHT", 0.3, "KD.FEATURE.LAYERS", (f"{layer}:{layer}",), *outputs)
    cfg = student_config(teacher, "feature", *options, *layers)
    torch.manual_seed(3)
    model = build_model(cfg)
    batch = with_knowledge(cfg)
    live = LiveTeacher(cfg).teacher.model
    with torch.no_grad():
        pairs = [((live, sample["teacher_image"]), (model.student, sample["image"])) for sample in batch]
        maps = [[feature_map(*side, layer) for side in pair] for pair in pairs]
        expected = sum(distance(sample["knowledge"], *pair) for sample, pair in zip(batch, maps, strict=True))
        actual = model(batch)["loss_feature"].item()
    assert actual == pytest.approx(0.3 * expected / (2 * len(batch)), rel=1e-4)


def test_label_embeddings_leave_out_views_without_regions_and_unlabeled_images(teacher: Path) -> None:
    cfg = student_config(teacher, "prediction", *LED, "KD.FEATURE.WEIGHT", 0.1)
    model = build_model(cfg)
    batch = with_knowledge(cfg, count=5)
    for sample in batch:
        sample["labels"] = [0, 2, 4]
    expected = model(batch[:3])["loss_feature"].item() * 3 / 5
    known = batch[3]["knowledge"]
    empty = {name: getattr(known, name)[:0] for name in ("boxes", "region_weights", "region_scores")}
    batch[3]["knowledge"] = replace(known, **empty, features={"conv5": known.features["conv5"][:0]})
    del batch[4]["labels"]
    model.labeled_fraction = 0.5
    loss = model(batch)["loss_feature"].item()
    assert loss == pytest.approx(expected / 0.5, rel=1e-4) and expected > 0
    model.feature_distiller.loss_weight = 0.3
    assert model(batch)["loss_feature"].item() == pytest.approx(3 * loss, rel=1e-4)


def test_losses_of_scores_use_the_keys_of_the_configuration(teacher: Path) -> None:
    keys = ("KD.PREDICTION.STUDENT_TEMPERATURE", 2.0, "KD.PREDICTION.LOSS", "bce", "KD.PREDICTION.WEIGHT", 3.0)
    soft = build_model(student_config(teacher, "prediction", *keys)).prediction_distiller
    assert (soft.student_temperature, soft.loss, soft.loss_weight) == (2.0, "bce", 3.0)
    keys = (*METHODS["hinton"][1], "KD.PREDICTION.TEMPERATURE", 4.0, "KD.PREDICTION.WEIGHT", 3.0)
    hinton = build_model(student_config(teacher, "prediction", *keys)).prediction_distiller
    assert (hinton.temperature, hinton.loss_weight) == (4.0, 3.0)


def test_box_head_features_are_compared_like_in_the_release(teacher: Path) -> None:
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
    live, student = LiveTeacher(cfg).teacher.model, model.student.eval()
    with pytest.raises(InputError, match=r"COMPARE box_head"):  # fc6 fits only conv5
        build_model(student_config(teacher, "feature", *options, "KD.FEATURE.LAYERS", ("conv4:conv5",)))
    heads = ((live, live.roi_heads.box_head, "teacher_"), (student, student.head.fully_connected, ""))
    expected = 0.0
    with torch.no_grad():
        for sample in batch:
            vectors = []
            for net, head, prefix in heads:
                proposals = sample[f"{prefix}proposals"]
                pooled_map = feature_map(net, sample[f"{prefix}image"])
                pooled = roi_pool(pooled_map, [proposals.proposal_boxes.tensor], 7, 1 / 16)
                vectors.append(head(pooled * proposals.objectness[:, None, None, None]))
            expected += (vectors[0] - vectors[1]).pow(2).sum() / len(proposals) / (2 * len(batch))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(("options", "adapter"), [((), ".adapter"), (FITNETS, ".adapter"), (ATTENTION, "")])
def test_an_adapter_for_maps_of_another_width_is_trained(teacher: Path, options: tuple, adapter: str) -> None:
    model = build_model(student_config(teacher, "feature", *options, "MODEL.VGG.WIDTH", 0.2))
    model(with_knowledge(student_config(teacher, "feature", *options)))["loss_feature"].backward()
    found = {n for n, p in model.named_parameters() if n.startswith("feature_distiller.") and p.grad is not None}
    names = {f"feature_distiller.adapters.0.{name}" for name in ("weight", "bias")}
    assert found == (names if adapter else set())


def test_losses_of_several_layers_are_added(tmp_path: Path) -> None:
    cfg = teacher_config()
    cfg.MODEL.VGG.OUT_FEATURES = ("conv4", "conv5")
    path = save_teacher(tmp_path, cfg)
    options = ("MODEL.VGG.OUT_FEATURES", ("conv4", "conv5"), "MODEL.CLASSIFIER.IN_FEATURE", "conv5")
    losses = []
    for layers in (("conv5:conv5",), ("conv4:conv4",), ("conv5:conv5", "conv4:conv4")):
        student = student_config(path, "feature", "KD.FEATURE.LAYERS", layers, *options)
        torch.manual_seed(5)
        losses.append(build_model(student)(with_knowledge(student))["loss_feature"].item())
    assert losses[2] == pytest.approx(losses[0] + losses[1], rel=1e-5)


# A backbone that pads images.
FPN = ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS")
FPN += (64, "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"], "MODEL.FPN.IN_FEATURES", ["res4", "res5"])
FPN += ("MODEL.CLASSIFIER.IN_FEATURE", "p5", "MODEL.BACKBONE.FREEZE_AT", 0)


@pytest.mark.parametrize(
    ("stage", "options", "message"),
    [
        ("feature", ("KD.FEATURE.LAYERS", ("conv9:conv5",)), "KD.FEATURE.LAYERS: the teacher.*'conv9'.* conv5"),
        ("feature", ("KD.FEATURE.LAYERS", ("conv5:conv9",)), "KD.FEATURE.LAYERS: the student.*'conv9'.* conv5"),
        ("feature", ("KD.FEATURE.LAYERS", ("conv5",)), "KD.FEATURE.LAYERS"),
        ("feature", ("KD.FEATURE.COMPARE", "box_head"), "KD.FEATURE.COMPARE box_head.*POOLING fc"),
        ("feature", (*FPN, "INPUT.SIZES_TRAIN", (64, 40)), r"INPUT.SIZES_TRAIN \(64, 40\).*multiples of 32"),
        ("feature", ("MODEL.BACKBONE.FREEZE_AT", 5), "MODEL.BACKBONE.FROZEN False, FREEZE_AT 5"),
        ("prediction", ("KD.PREDICTION.LOSS", "kl"), "KD.PREDICTION.LOSS 'kl'"),
        ("feature", LED, "LabelEmbeddingDistiller.*KD.METHOD_STAGES"),
        ("prediction", (*LED, "MODEL.CLASSIFIER.POOLING", "fc"), "MODEL.CLASSIFIER.POOLING fc"),
        ("prediction", (*LED, "KD.FEATURE.LAYERS", ("conv5:conv5", "conv5:conv5")), "KD.FEATURE.LAYERS"),
    ],
)
def test_settings_that_do_not_match_are_named(teacher: Path, stage: str, options: tuple, message: str) -> None:
    cfg = student_config(teacher, stage, *options)
    with pytest.raises(InputError, match=message):
        check_config(cfg)
        build_model(cfg)
