"""The command lines: `mlickd NAME`, `python -m mlickd NAME` and `python tools/MODULE.py` run the same `main`.

This file imports nothing, so that the list of commands is there at once.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMMANDS", "GROUPS", "Command"]


class Command(NamedTuple):
    """
    Attributes:
        module: in this package, with `main` and `parse_arguments`; also the name of the script in `tools/`.
        summary: for the list of commands, one line.
    """

    module: str
    summary: str


# As they are listed, by what they are for.
GROUPS = {
    "Start": {
        "quickstart": Command("quickstart", "run the whole method, from proposals to the gallery"),
    },
    "Data": {
        "check-dataset": Command("check_dataset", "look over images, labels, proposals, copies"),
        "dataset-manifest": Command("dataset_manifest", "list the images and labels of a dataset, with a digest"),
        "generate-proposals": Command("generate_proposals", "make the regions that the teacher looks at"),
        "convert-proposals": Command("convert_proposals", "import proposals from other projects, or export them"),
        "evaluate-proposals": Command("evaluate_proposals", "measure how many objects proposals find"),
    },
    "Training": {
        "train": Command("train_net", "train or evaluate teacher, student, or a distillation"),
        "cache-knowledge": Command("cache_knowledge", "keep what the teacher says of each training image"),
        "cross-fit": Command("cross_fit", "let teachers speak of photos that they have not seen"),
        "calibrate-teacher": Command("calibrate_teacher", "make a teacher's scores probabilities"),
        "tune-thresholds": Command("tune_thresholds", "choose the threshold of each class on held-out photos"),
    },
    "Use": {
        "predict": Command("predict", "predict the labels of any photos"),
        "export": Command("export_student", "write the student as one file, and check it on photos"),
    },
    "Results": {
        "evaluate": Command("evaluate", "show scores of runs under every convention in use"),
        "compare": Command("compare", "train by several methods and seeds, and write the table"),
        "robustness": Command("robustness", "compare students on damaged photos, by size, by class"),
        "visualize": Command("visualize", "draw a gallery of regions and predictions, and plots"),
        "benchmark": Command("benchmark", "measure what the project costs on this machine"),
    },
}

# All of them, by name.
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}
