"""The program of `QuickTools`, which it copies next to the results. Without Detectron2, so that it starts quickly."""

import shutil
import sys
from pathlib import Path


def main() -> None:
    """Write the files of a command, and its name and seed into `calls`."""
    command, *words = sys.argv[1:]
    if command == "generate-proposals":
        return
    arguments = dict(zip(words, words[1:], strict=False))  # of each option and key, the next word
    if command == "cache-knowledge":
        cache = Path(arguments["KD.CACHE"])
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "shard").write_text(" ".join(words))
        return
    here, output = Path(__file__).parent, Path(arguments["OUTPUT_DIR"])
    seed, stage = arguments["SEED"], arguments.get("--kd-stage", "")
    with (here / "calls").open("a") as file:
        file.write(f"{output.name}{'/' + stage if stage else ''} {seed}\n")
    if (here / f"fail {output.name} {seed}").exists():
        sys.exit("error: SOLVER.BASE_LR too high, loss is NaN")
    folder = output / stage
    folder.mkdir(parents=True, exist_ok=True)
    losses = '{"iteration": 19, "total_loss": 3.0}\n{"iteration": 39, "total_loss": 2.0}\n'
    (folder / "metrics.json").write_text(losses)
    (folder / "student.pth").write_text(f"{output.name} {seed}")
    (folder / "model_final.pth").write_text(f"{output.name} {seed}")
    if stage != "feature":
        shutil.copytree(here / f"results {output.name} {seed}", folder, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
