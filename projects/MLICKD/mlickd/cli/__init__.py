"""The command lines: `mlickd NAME`, `python -m mlickd NAME` and `python tools/MODULE.py` run the same `main`.

`main` raises InputError if an option is wrong, or a file or dataset that it names. This file imports nothing slow, so
that `mlickd` lists the commands at once.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMANDS", "GROUPS", "Command"]


class Command(NamedTuple):
    """
    Attributes:
        module: module in this package, with the function `main`; also the name of the script in `tools/`.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


# Commands by group, in the order of the list.
GROUPS = {
    "Start": {
        "quickstart": Command("quickstart", "run the whole method, from proposals to the gallery"),
    },
    "Data": {
        "check-dataset": Command("check_dataset", "check images, labels and proposals, and find copies"),
        "dataset-manifest": Command("dataset_manifest", "list the images and labels of a dataset, with a digest"),
        "generate-proposals": Command("generate_proposals", "generate the regions that the teacher scores"),
        "convert-proposals": Command("convert_proposals", "import proposals of other projects, or export them"),
        "evaluate-proposals": Command("evaluate_proposals", "measure how many objects the proposals cover"),
    },
    "Training": {
        "train": Command("train_net", "train or evaluate a teacher, a baseline or a distillation"),
        "cache-knowledge": Command("cache_knowledge", "store the teacher's outputs for all training images"),
        "cross-fit": Command("cross_fit", "cache outputs of teachers for images they did not learn"),
        "calibrate-teacher": Command("calibrate_teacher", "turn the scores of a teacher into probabilities"),
        "tune-thresholds": Command("tune_thresholds", "choose a threshold for each class on held-out images"),
    },
    "Use": {
        "predict": Command("predict", "predict the labels of any photos"),
        "export": Command("export_student", "write a student as an ONNX file, and check it on photos"),
    },
    "Results": {
        "evaluate": Command("evaluate", "show scores of runs under every convention in use"),
        "compare": Command("compare", "train several methods with several seeds, and tabulate"),
        "robustness": Command("robustness", "compare students on damaged images, by size and class"),
        "visualize": Command("visualize", "write a gallery of regions and predictions, and plots"),
        "benchmark": Command("benchmark", "measure speed and memory on this machine"),
    },
}

# Commands by name.
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
