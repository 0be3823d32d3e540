"""The command lines: `mlickd NAME`, `python -m mlickd NAME` and `python tools/MODULE.py` run the same `main`.

`main` raises InputError if an option, or a file or dataset that an option names, is wrong. This file does not import
slow modules, so that `mlickd` lists the commands immediately.
"""

# Summaries of the commands by group, in the order of the list.
GROUPS = {
    "Start": {"quickstart": "run the whole method, from proposals to the gallery"},
    "Data": {
        "check-dataset": "check images, labels and proposals, and find duplicates",
        "generate-proposals": "generate the regions that the teacher scores",
        "convert-proposals": "convert proposals of other projects",
        "evaluate-proposals": "measure how many objects the proposals cover",
    },
    "Training": {
        "train": "train or evaluate a teacher, a baseline or a distilled student",
        "cache-knowledge": "store the teacher's outputs for all training images",
        "tune-thresholds": "choose a threshold for each class on held-out images",
    },
    "Use": {
        "predict": "predict the labels of any photos",
        "demo": "show and correct the labels of photos in a browser",
        "export": "write a student as an ONNX file, and check it on photos",
    },
    "Results": {
        "evaluate": "compute metrics of runs under all common conventions",
        "compare": "train methods with several seeds, and write tables",
        "visualize": "write a gallery of regions and predictions, and plots",
        "benchmark": "measure speed and memory on this machine",
    },
    "Setup": {
        "install-detectron2": "install Detectron2, which most commands need",
        "env": "show versions, devices and folders, for bug reports",
    },
}

# Modules of the commands. A module has the function `main`, and is named like the script in `tools/`.
COMMANDS = {name: name.replace("-", "_") for group in GROUPS.values() for name in group}
COMMANDS |= {"train": "train_net", "export": "export_student"}
