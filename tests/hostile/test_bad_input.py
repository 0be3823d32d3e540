"""Bad input ends a command with one line, exit status 2 and no traceback, and changes no file.

Paths are relative to the folder that `helpers.ground` writes.
"""

import pickle
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.ground import write_ground
from mlickd.__main__ import main

Damage = Callable[[], object]

TABLE = "datasets/tiny/labels_fit.csv"
PHOTO = "datasets/tiny/images/train_00000.jpg"
STORE = "datasets/proposals/tiny_fit_edge_boxes"

CLS, WSD = "train --config-file cls.yaml", "train --config-file wsd.yaml"
STAGE2 = "train --config-file kd.yaml --kd-stage prediction KD.METHOD_STAGES \"('prediction',)\""
CACHE = "cache-knowledge --config-file kd.yaml --no-mirrored {} KD.CACHE knowledge"
IMPORT = "convert-proposals --format detectron2 --input p.pkl --dataset tiny_fit"
PREDICT, EXPORT = "predict photo.jpg --model run", "export --run run --output"
COMPARE = "compare --train tiny_fit --test tiny_val --output x"


class Hostile:
    """Unpickling it creates the file `ran`."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def data(path: str, content: bytes | str) -> Damage:
    return lambda: Path(path).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(path: str) -> Damage:
    return lambda: Path(path).write_bytes(Path(path).read_bytes()[: Path(path).stat().st_size // 2])


def removed(path: str) -> Damage:
    return lambda: shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()


def replaced(path: str, old: str, new: str) -> Damage:
    return lambda: Path(path).write_text(Path(path).read_text().replace(old, new))


def rows(*lines: str) -> Damage:
    return data(TABLE, "".join(f"{line}\n" for line in ("file_name,labels", *lines)))


def checkpoint(path: str, content: object) -> Damage:
    return lambda: torch.save(content, path)


def scores_without_targets() -> None:
    np.savez("u.npz", image_ids=np.array(["a"]), scores=np.zeros((1, 1)), targets=np.full((1, 1), -1))


# Command, text in the message, and a change to the folder before the command.
CASES: list[tuple[str, str, Damage | None]] = [
    # Images
    (CLS, "train_00000.jpg", data(PHOTO, "text")),
    (CLS, "labels_fit.csv: line 2: file name 'train_00000.jpg'", removed(PHOTO)),
    # Labels
    (CLS, "labels_fit.csv: line 2: label 'unicorn'", rows("train_00000.jpg,unicorn")),
    (CLS, "'../../photo.jpg'", rows("../../photo.jpg,")),
    (CLS, "'tiny_fit'", removed(TABLE)),
    (f"{CLS} DATASETS.TRAIN \"('other_train',)\"", "other_train", None),
    # Proposals
    (WSD, "tiny_fit_edge_boxes", removed(STORE)),
    (WSD, "no proposals for image", lambda: (removed(STORE)(), Path(STORE).symlink_to("tiny_val_edge_boxes"))),
    (WSD, "00000-of-00001.safetensors", cut(f"{STORE}/00000-of-00001.safetensors")),
    (IMPORT, "p.pkl", lambda: Path("p.pkl").write_bytes(pickle.dumps(Hostile()))),
    ("generate-proposals --dataset tiny_fit --method magic", "magic", None),
    # Knowledge caches
    (f"{CACHE.format('--check')}-gone", "knowledge-gone/tiny_fit", None),
    # Checkpoints
    (f"{CLS} MODEL.WEIGHTS teacher/model_final.pth", "MODEL.WEIGHTS teacher/model_final.pth", None),
    (f"{CLS} MODEL.BACKBONE.WEIGHTS b.pth", "b.pth", checkpoint("b.pth", {"a": torch.zeros(1)})),
    (f"{CLS} MODEL.BACKBONE.WEIGHTS b.pkl", "b.pkl", lambda: Path("b.pkl").write_bytes(pickle.dumps(Hostile()))),
    (PREDICT, "run/model_final.pth", checkpoint("run/model_final.pth", {"model": Hostile()})),
    (STAGE2, "19 classes", replaced("teacher/config.yaml", "NUM_CLASSES: 20\n", "NUM_CLASSES: 19\n")),
    (f"{STAGE2} KD.TEACHER.WEIGHTS run/model_final.pth", "run/", None),
    (STAGE2, "classes.txt has other classes than tiny_fit", data("teacher/classes.txt", "cat\ndog\n")),
    ("train --config-file run/config.yaml --eval-only", "run/classes.txt has", data("run/classes.txt", "cat\ndog\n")),
    # Configurations
    (PREDICT, "run/config.yaml", data("run/config.yaml", "SEED: !!python/object/apply:os.mkdir [ran]\n")),
    (f"{CLS} SOLVER.MAX_ITER 0", "SOLVER.MAX_ITER 0", None),
    (f"{CLS} SOLVER.MAX_ITER 2 --resume", "--resume", None),
    (f"{CLS} MODEL.NUM_CLASSES 7", "MODEL.NUM_CLASSES 7", None),
    (f"{CLS} DATASETS.TRAIN \"('gone_train',)\"", "'gone_train'", None),
    (f"{CLS} TEST.THRESHOLD 7.0", "TEST.THRESHOLD", None),
    # Files of runs
    (PREDICT, "thresholds.json", replaced("run/thresholds.json", "0.5", "7")),
    (PREDICT, "thresholds.json", replaced("run/thresholds.json", 'sha256": "', 'sha256": "0')),
    ("predict photo.jpg --model student.onnx", "student.onnx", data("student.onnx", "text")),
    # Command lines
    ("train --config-file kd.yaml --kd-stage third", "--kd-stage third", None),
    (STAGE2.partition(" KD.METHOD_STAGES")[0], "stage 1", None),
    ("predict photo.jpg --model run --json photo.jpg/a.json", "photo.jpg/a.json", None),
    ("predict photo.jpg --model run --save photo.jpg", "photo.jpg", None),
    ("compare --seeds=1,-2", "--seeds: 1,-2", None),
    ("compare --held-out 1", "--held-out: 1", None),
    ("quickstart --photos datasets/tiny/images", "--labels", None),
    (f"quickstart --photos datasets/tiny/images --labels {TABLE} --train tiny_fit", "--labels", None),
    (f"quickstart --photos datasets/tiny/images --labels {TABLE} --configs odd", "odd/kd.yaml", None),
    (f"quickstart --photos datasets/tiny/images --labels {TABLE} SOLVER.ODD 1", "SOLVER.ODD", None),
    ("quickstart --photos gone --labels gone TEST.TOP_K 5", "TEST.TOP_K", None),
    (f"{COMPARE} --test tiny_val@{{seed}}of2", "'tiny_val@{seed}of2'", None),
    (f"{CLS} --num-gpus 3", "SOLVER.IMS_PER_BATCH 4", None),
    # Options of single commands
    ("benchmark startup --data .", ".: ", None),
    ("check-dataset cats_train", "cats_train", None),
    ("compare --train gone_train --test tiny_val --output x", "'gone_train'", None),
    (f"{COMPARE} --method-file mine", "--method-file mine", None),
    (f"{COMPARE} SOLVER.MAX_ITERS 3", "SOLVER.MAX_ITERS", None),
    ("evaluate run run", "give each run once", None),
    ("evaluate run --threshold 50", "--threshold", None),
    ("evaluate run --bootstrap -1", "--bootstrap -1", None),
    ("evaluate u.npz --bootstrap 9", "u.npz", scores_without_targets),
    ("evaluate-proposals --dataset gone --methods sliding --json photo.jpg/a.json", "photo.jpg/a.json", None),
    ("evaluate-proposals --dataset tiny_val", "--methods", None),
    ("evaluate-proposals --dataset tiny_val --methods edges", "edges", None),
    ("evaluate-proposals --dataset tiny_val --methods sliding", "--dataset: ", None),
    ("evaluate-proposals --dataset tiny_val --methods sliding:overlap", "overlap", None),
    ("evaluate-proposals --dataset tiny_val --methods sliding sliding", "sliding, sliding", None),
    (f"{EXPORT} student.tflite", "student.tflite", None),
    ("export --run nothing --output a.onnx", "nothing", None),
    (f"{EXPORT} a.onnx --dataset tiny_val", "--check", None),
    (f"{EXPORT} a.onnx --check --photos x --num-images 3", "--photos", None),
    (f"{EXPORT} a.onnx --check --photos none.jpg", "none.jpg", None),
    ("generate-proposals --dataset tiny_fit tiny_val --output x", "--output", None),
    ("generate-proposals --dataset tiny_fit --workers -1", "--workers: -1", None),
    ("generate-proposals --dataset tiny_fit --set depth 3", "depth", None),
    ("generate-proposals --images .", "--output", None),
    (f"{PREDICT} --json a --csv a", "--json a, --csv a", None),
    ("visualize --baseline run --output x", "--dataset", None),
    ("visualize --baseline run --dataset tiny_val --output photo.jpg", "photo.jpg", None),
    ("visualize --baseline run --output x --dataset tiny_val --photos photo.jpg", "either --dataset or", None),
    ("tune-thresholds --run run --dataset other_train", "--dataset other_train", None),
]


@pytest.fixture(scope="module")
def ground(tiny_scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        return write_ground(tmp_path_factory.mktemp("ground"), tiny_scenes, patch)


@pytest.mark.parametrize(("command", "names", "damage"), CASES)
def test_bad_input(
    command: str, names: str, damage: Damage | None, ground: Path, tmp_path, monkeypatch, capsys
) -> None:
    if "onnx" in command:
        pytest.importorskip("onnxruntime")
    folder = tmp_path / "ground"
    shutil.copytree(ground, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(folder / "datasets"))
    monkeypatch.setenv("MLICKD_DEBUG", "")
    if damage is not None:
        damage()
    before = listing(folder)
    monkeypatch.setattr("sys.argv", ["mlickd", *shlex.split(command)])
    with pytest.raises(SystemExit) as end:
        main()
    errors = capsys.readouterr().err
    assert end.value.code == 2, errors
    message = errors.splitlines()[-1]
    assert message.startswith("error: ") and names in message, errors
    assert "Traceback" not in errors and errors.count("error: ") == message.count("error: ")
    assert listing(folder) == before, "a file was written or changed, or code in a file was run"


def listing(folder: Path) -> dict[Path, tuple[int, int] | bool]:
    """Return all paths in a folder, with size and modification time of the files."""
    paths = sorted(folder.rglob("*"))
    return {path: path.is_file() and (path.stat().st_size, path.stat().st_mtime_ns) for path in paths}
