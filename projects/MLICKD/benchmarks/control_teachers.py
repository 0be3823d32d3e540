"""Make weaker teachers from a study with a teacher for each seed, and the methods that distill them.

They show which part of a teacher with a context classifier helps a student:

- mil_only: the same checkpoint with MODEL.WSDDN.CONTEXT 0. Its image scores are the scores of WSDDN's streams.
- context_only: the same checkpoint with MODEL.WSDDN.CONTEXT 1.
- two_contexts: as context_only, with the mean of two context classifiers; the second is trained with another seed.
- baseline_teacher: the baseline itself, at the student's image size.

Example, from the root of the repository, for a finished study in output/study; the second command prints the table:

  python projects/MLICKD/benchmarks/control_teachers.py output/study output/controls
  mlickd compare ...the options of the study... --method-file mil_only=output/controls/mil_only.yaml \\
      --method-file context_only=output/controls/context_only.yaml
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
import yaml

CONTROLS = ("mil_only", "context_only", "two_contexts", "baseline_teacher")
TRAIN = Path(__file__).resolve().parents[3] / "tools" / "train_net.py"
CONTEXT = "roi_heads.context_"  # the classifier, and the mean of its features
OTHER_SEED = 1000  # is added to the seed of the teacher


def main() -> None:
    """Read the study, train the second context classifiers, and write teachers and methods."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="folder of the study, with seed<k>/teacher and seed<k>/baseline")
    parser.add_argument("output", type=Path, help="folder for seed<k>/<control> and <control>.yaml")
    args = parser.parse_args()
    folders = sorted(args.study.glob("seed*/teacher"))
    if not folders:
        sys.exit(f"{args.study}: has no seed<k>/teacher; run compare with --teacher-per-seed")
    for folder in folders:
        seed = folder.parent.name.removeprefix("seed")
        teacher, config = torch.load(folder / "model_final.pth", weights_only=True)["model"], folder / "config.yaml"
        second = args.output / f"seed{seed}" / "second"
        command = [sys.executable, TRAIN, "--config-file", config, "OUTPUT_DIR", second, "SEED", int(seed) + OTHER_SEED]
        if not (second / "results.json").is_file():
            subprocess.run(list(map(str, command)), check=True)
        other = torch.load(second / "model_final.pth", weights_only=True)["model"]
        mean = {key: (teacher[key] + other[key]) / 2 for key in teacher if key.startswith(CONTEXT)}
        baseline = torch.load(folder.with_name("baseline") / "model_final.pth", weights_only=True)["model"]
        linear = {key.rpartition(".")[2]: value for key, value in baseline.items() if "head.linear" in key}
        classifier = {f"{CONTEXT}classifier.{key}": value for key, value in linear.items()}
        trunk = {key: value for key, value in baseline.items() if key.startswith("backbone.")}
        values = yaml.safe_load(config.read_text(encoding="utf-8"))
        size = yaml.safe_load((folder.with_name("baseline") / "config.yaml").read_text(encoding="utf-8"))["INPUT"]
        streams = {key: value for key, value in teacher.items() if not key.startswith(CONTEXT)}
        states = (streams, teacher, teacher | mean, streams | trunk | classifier)
        for name, state in zip(CONTROLS, states, strict=True):
            values["MODEL"]["WSDDN"]["CONTEXT"] = 0.0 if name == "mil_only" else 1.0
            if name == "baseline_teacher":
                values["MODEL"]["WSDDN"]["FEATURE_NORM"] = 0.0  # as in the classifier
                values["INPUT"] |= {key: size[key] for key in ("SIZES_TRAIN", "SIZE_TEST")}
            run = args.output / f"seed{seed}" / name
            run.mkdir(parents=True, exist_ok=True)
            torch.save({"model": state}, run / "model_final.pth")
            (run / "config.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    for name in CONTROLS:
        weights = f"{args.output}/seed{{seed}}/{name}/model_final.pth"
        (args.output / f"{name}.yaml").write_text(f"KD: {{TEACHER: {{WEIGHTS: '{weights}'}}}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
