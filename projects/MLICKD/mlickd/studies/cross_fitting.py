"""Cross-fitting: the knowledge of each part of a dataset comes from a teacher that was trained on the other parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode

from mlickd.data import proposals_path
from mlickd.data.build import model_class
from mlickd.data.catalog import dataset_records
from mlickd.data.parts import DatasetPart, part_name
from mlickd.distillation.teacher_config import DATASET
from mlickd.engine.check_config import config_value
from mlickd.engine.run_config import load_config
from mlickd.errors import InputError

from .jobs import Job
from .training_methods import write_method_file

__all__ = ["cross_fitting_jobs"]


def cross_fitting_jobs(
    teacher_config: Path,
    kd_config: Path,
    dataset: str,
    num_parts: int,
    output: Path,
    options: Sequence[str],
    tools: Path,
) -> list[Job]:
    """Return the jobs that train a teacher for each part on all other parts, and cache its knowledge of the part.

    The configuration of a student that learns from this knowledge is written to ``kd.yaml``.

    Args:
        teacher_config: configuration of the teachers.
        kd_config: configuration of the distillation.
        dataset: name of a dataset, or of a part of a dataset.
        num_parts: number of parts, 2 or more.
        output: folder of the results: ``teachers/<part>``, ``knowledge``, ``logs`` and ``kd.yaml``.
        options: ``KEY VALUE`` pairs for all commands, and for the student.
        tools: folder of the command lines.

    Raises:
        InputError: a configuration, the dataset or the number of parts is wrong.
    """
    # Absolute paths do not depend on the working folder. Links are kept, because _BASE_ is relative to their folder.
    output, tools = output.resolve(), tools.resolve()
    teacher_config, kd_config = (file.parent.resolve() / file.name for file in (teacher_config, kd_config))
    method = _load_config("--config-file", teacher_config, options, detector=True).DATASETS.PROPOSALS.METHOD
    cfg = _load_config("--kd-config", kd_config, options, detector=False)
    names = [part_name(DatasetPart(dataset, number, num_parts)) for number in range(1, num_parts + 1)]
    for name in names:
        dataset_records(name, boxes=False)
    values = {key: config_value(cfg, key) for key in options[::2]} | {
        "DATASETS.TRAIN": names,
        "KD.TEACHER.WEIGHTS": str(output / "teachers" / DATASET / "model_final.pth"),
        "KD.CACHE": str(output / "knowledge"),
    }
    write_method_file(output / "kd.yaml", [kd_config], values)

    generate = [str(tools / "generate_proposals.py"), "--dataset", dataset, "--method", method]
    proposals = Job("proposals", output, generate, prepares=True)
    shared = {"datasets": [dataset], "after": [proposals], "reads": [proposals_path(dataset, method)]}
    teachers = []
    for number, name in enumerate(names, start=1):
        others = part_name(DatasetPart(dataset, number, num_parts, others=True))
        data = [*options, "DATASETS.TRAIN", f"('{others}',)", "DATASETS.TEST", f"('{name}',)"]
        command = [str(tools / "train_net.py"), "--config-file", str(teacher_config), *data]
        command += ["OUTPUT_DIR", str(output / "teachers" / name)]
        run = {"result": "results.json", "configs": [teacher_config], "options": data, "resumes": True}
        teachers.append(Job(f"teachers/{name}", output, command, **run, **shared))
    command = [str(tools / "cache_knowledge.py"), "--config-file", str(output / "kd.yaml"), "--batch-size", "16"]
    shared["reads"] = [*shared["reads"], *(job.folder / "model_final.pth" for job in teachers)]
    shared["after"] = [proposals, *teachers]
    return [*teachers, Job("knowledge", output, command, configs=[output / "kd.yaml"], **shared)]


def _load_config(option: str, file: Path, options: Sequence[str], *, detector: bool) -> CfgNode:
    cfg = load_config(str(file), list(options))
    kind = model_class(cfg)
    if kind.is_detector != detector or bool(kind.student_architecture) == detector:
        expected = "a teacher" if detector else "a distillation"
        raise InputError(
            f"{option} {file}: MODEL.META_ARCHITECTURE {kind.__name__} is not {expected}; give another file"
        )
    if cfg.DATASETS.PROPOSALS.TRAIN_FILES:
        raise InputError(
            f"{option} {file}: DATASETS.PROPOSALS.TRAIN_FILES cannot name the files of all parts; leave it empty, and "
            "give DATASETS.PROPOSALS.METHOD"
        )
    return cfg
