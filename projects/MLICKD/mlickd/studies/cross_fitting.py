"""Cross-fitting: the knowledge of each part of a dataset comes from a teacher that was trained on the other parts."""

from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path

from mlickd.data import proposals_path
from mlickd.data.catalog import dataset_records
from mlickd.data.parts import DatasetPart, whole_name
from mlickd.distillation.teacher_config import DATASET
from mlickd.errors import InputError

from .jobs import Job, proposal_jobs
from .training_methods import DISTILLED, TEACHER, load_method, write_method_file


def cross_fitting_jobs(
    teacher_config: Path,
    kd_config: Path,
    dataset: str,
    num_parts: int,
    output: Path,
    options: Sequence[str],
) -> list[Job]:
    """For each part, return the jobs that train a teacher on the other parts and cache its outputs for this part.

    The configuration of a student that learns from this knowledge is written to ``kd.yaml``.

    Args:
        teacher_config: configuration of the teachers.
        kd_config: configuration of the distillation.
        dataset: name of a dataset, or of a part of a dataset.
        num_parts: number of parts, 2 or more.
        output: folder of the results: ``teachers/<part>``, ``knowledge``, ``logs`` and ``kd.yaml``.
        options: ``KEY VALUE`` pairs for all commands, and for the student.

    Raises:
        InputError: a configuration, the dataset or the number of parts is wrong.
    """
    # Absolute paths do not depend on the working folder. Only the folder of a configuration is resolved: if the file is
    # a link, _BASE_ is relative to the folder of the link.
    output = output.resolve()
    teacher_config, kd_config = (file.parent.resolve() / file.name for file in (teacher_config, kd_config))
    teacher = load_method(TEACHER, teacher_config, options, dataset)
    student = load_method(DISTILLED, kd_config, options, dataset)
    if not student.stages:
        raise InputError(f"--kd-config {kd_config}: is not a distillation; give one, such as configs/scenes/kd.yaml")
    if student.cfg.DATASETS.UNLABELED:
        raise InputError(f"--kd-config {kd_config}: DATASETS.UNLABELED is not cross-fitted; leave it empty")
    given = {file for method in (teacher, student) for file in method.cfg.DATASETS.PROPOSALS.TRAIN_FILES}
    if len(given) > 1:
        raise InputError(f"DATASETS.PROPOSALS.TRAIN_FILES {', '.join(given)}: give one file, with all of {dataset}")
    names = [str(DatasetPart(dataset, number, num_parts)) for number in range(1, num_parts + 1)]
    for name in names:
        dataset_records(name, boxes=False)
    values = {key: attrgetter(key)(student.cfg) for key in options[::2]} | {
        "DATASETS.TRAIN": names,
        "KD.TEACHER.WEIGHTS": str(output / "teachers" / DATASET / "model_final.pth"),
        "KD.CACHE": str(output / "knowledge"),
    }
    proposal_method = teacher.cfg.DATASETS.PROPOSALS.METHOD
    whole = whole_name(dataset)  # parts share the proposals of the whole dataset
    given_paths = {whole: Path(given.pop()).resolve()} if given else {}
    paths, proposals = proposal_jobs(output, [whole], proposal_method, given_paths)
    files = [str(paths[whole])] if given_paths or paths[whole] != proposals_path(whole, proposal_method) else []
    if files:
        values["DATASETS.PROPOSALS.TRAIN_FILES"] = files * num_parts
    write_method_file(output, "kd.yaml", [kd_config], values)
    shared = {"datasets": [dataset], "depends_on": proposals, "inputs": [*paths.values()]}
    teachers = []
    for number, name in enumerate(names, start=1):
        others = str(DatasetPart(dataset, number, num_parts, others=True))
        data = [*options, "DATASETS.TRAIN", f"('{others}',)", "DATASETS.TEST", f"('{name}',)"]
        for split in ("TRAIN", "TEST") if files else ():
            data += [f"DATASETS.PROPOSALS.{split}_FILES", str(tuple(files))]
        command = ["train", "--config-file", str(teacher_config), *data]
        command += ["OUTPUT_DIR", str(output / "teachers" / name)]
        run = {"result": "results.json", "configs": [teacher_config], "options": data, "resumes": True}
        teachers.append(Job(f"teachers/{name}", output, command, **run, **shared))
    command = ["cache-knowledge", "--config-file", str(output / "kd.yaml"), "--batch-size", "16"]
    shared["inputs"] = [*shared["inputs"], *(job.folder / "model_final.pth" for job in teachers)]
    shared["depends_on"] = [*proposals, *teachers]
    return [*teachers, Job("knowledge", output, command, configs=[output / "kd.yaml"], **shared)]
