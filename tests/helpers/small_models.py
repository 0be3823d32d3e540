"""Configurations of a small teacher and student, and samples for both."""

from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from mlickd.config import default_config
from mlickd.data import View
from mlickd.distillation import LiveTeacher, TeacherKnowledge

CLASSES = 5
CONFIGS = Path(__file__).parents[2] / "configs"


# VGG11 at a tenth of its width.
SMALL = ["MODEL.VGG.DEPTH", 11, "MODEL.VGG.WIDTH", 0.1, "MODEL.ROI_BOX_HEAD.FC_DIM", 16]
SMALL += ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", 0]


def small_config(base: str, *options: object) -> CfgNode:
    """Return the configuration in ``configs/<base>.yaml`` with a small network, and other values in ``options``."""
    cfg = default_config()
    cfg.merge_from_file(str(CONFIGS / f"{base}.yaml"))
    cfg.merge_from_list([*SMALL, *options])
    return cfg


def teacher_config() -> CfgNode:
    """Return the configuration of a small teacher."""
    return small_config("Base-WSD", "MODEL.NUM_CLASSES", CLASSES, "INPUT.SIZES_TRAIN", (64,), "INPUT.SIZE_TEST", 64)


def save_teacher(folder: Path, cfg: CfgNode | None = None) -> Path:
    """Write the files of a trained teacher and return its checkpoint."""
    torch.manual_seed(0)
    cfg = cfg or teacher_config()
    (folder / "config.yaml").write_text(cfg.dump())
    torch.save({"model": build_model(cfg).state_dict()}, folder / "model_final.pth")
    return folder / "model_final.pth"


def student_config(teacher: Path, stage: str, *options: object) -> CfgNode:
    """Return the configuration of a student of that teacher, with the same network."""
    student = ["MODEL.META_ARCHITECTURE", "DistilledClassifier", "MODEL.NUM_CLASSES", CLASSES]
    student += ["KD.STAGE", stage, "KD.TEACHER.WEIGHTS", str(teacher), "INPUT.SIZES_TRAIN", (32,)]
    return small_config("Base-Classifier", *student, *options)


def make_batch(count: int = 2, side: int = 32) -> list[dict]:
    """Return random samples with random proposals, like the mapper does."""
    generator = torch.Generator().manual_seed(1)
    batch = []
    for i in range(count):
        large = torch.randint(0, 256, (3, 64, 64), generator=generator, dtype=torch.uint8)
        small = torch.nn.functional.interpolate(large[None].float(), size=side, mode="area")[0].round().byte()
        corners = torch.rand(7 + i, 2, 2, generator=generator).sort(dim=1).values.flatten(start_dim=1)
        objectness = torch.rand(7 + i, generator=generator).sort(descending=True).values
        sample = {"image": small, "teacher_image": large, "labels": [i, 4], "image_id": i}
        sample |= {"file_name": f"{i}.jpg", "view": View(side)}
        for prefix, size in (("", side), ("teacher_", 64)):
            proposals = Instances((size, size))
            proposals.proposal_boxes = Boxes(corners * size)
            proposals.objectness = objectness
            sample[f"{prefix}proposals"] = proposals
        batch.append(sample)
    return batch


def with_knowledge(cfg: CfgNode, count: int = 2) -> list[dict]:
    """Return a batch of `make_batch` with the knowledge of the live teacher of a configuration."""
    batch = make_batch(count)
    for sample, knowledge in zip(batch, LiveTeacher(cfg)(batch), strict=True):
        sample["knowledge"] = knowledge
    return batch


def tensors_of(knowledge: TeacherKnowledge) -> list[torch.Tensor]:
    """Return all tensors of a teacher's knowledge."""
    fields = [value.values() if isinstance(value, dict) else [value] for value in vars(knowledge).values()]
    return [value for values in fields for value in values if isinstance(value, torch.Tensor)]
