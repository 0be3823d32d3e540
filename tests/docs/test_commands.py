"""Commands in help texts and on pages: parsers and the configuration accept them, and they run."""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest

from helpers.forked_runs import fork, wait_or_kill
from mlickd.__main__ import main
from mlickd.cli import COMMANDS
from mlickd.cli.command_line import CommandParser
from mlickd.config import default_config
from mlickd.config_files import find_config, merge_options
from mlickd.data.proposals import image_proposals
from mlickd.data.scenes import dataset as scenes
from mlickd.engine.run_config import load_config
from mlickd.errors import run_tool
from mlickd.studies import jobs

ROOT = Path(__file__).parents[2]
GLOBS = ("*.md", "*/README.md", "projects/*/*.md", "projects/*/*/*.md", "docs/*.md")
PAGES = [page for glob in GLOBS for page in sorted(ROOT.glob(glob))]
FENCED = re.compile(r"^```.*\n((?:.*\n)*?)```$", re.MULTILINE)
COMMAND = re.compile(r" {2,8}(?:\w+=\S+ )*(?:(?:srun|torchrun|find) .*)?(?:mlickd|python tools/|tools/)\b")
TOOL = re.compile(r"tools/(\w+)\.py|mlickd")
OTHERS = re.compile("gpu_check|install[_-]detectron2")  # not a command of the package; its parser is argparse's
# Parts of commands that do not run here, and the reasons.
LEFT_OUT = {
    "srun": "needs a cluster",
    "DETECTRON2_ENV_MODULE": "needs a new process; test_examples.py trains with this file",
    "convert[-_]proposals": "needs a file of another project; test_convert_proposals.py writes one",
    r"\bdemo\b": "serves a page until Ctrl-C; test_demo.py uses it",
    " user/": "needs the Hugging Face Hub; test_hub.py replaces it",
    "benchmark": "measures for minutes; test_benchmark.py runs it",
    "compare .*DATALOADER.NUM_WORKERS 0": "a published comparison takes hours; other commands compare, too",
}
# Replacements of data that must be downloaded, and of several processes and seeds.
STAND_INS = {
    r"(coco_2014_train|voc_2007_trainval)_multilabel": "animals_train",
    r"(coco_2014_val|voc_2007_test|nus_wide_test)_multilabel": "animals_test",
    r"(srun .*)?torchrun (?!.* -m ).*?(?=tools/)": "python ",
    r"(srun .*)?torchrun .*? -m (?=mlickd)|--(num-gpus|num-machines|machine-rank|dist-url|jobs) \S+| \.\.\.": "",
    r"--seeds \S+": "--seeds 1",
    r"--photos \S+ --labels \S+": "--photos album --labels album.csv",
    r"\$SLURM_ARRAY_TASK_ID": "1",
    "/shared/output": "shared",
}
SMALL = """MODEL.BACKBONE.WEIGHTS '' MODEL.BACKBONE.FROZEN False MODEL.BACKBONE.FREEZE_NORM False MODEL.VGG.DEPTH 11
MODEL.VGG.WIDTH 0.05 MODEL.TIMM.NAME resnet10t MODEL.RESNETS.RES2_OUT_CHANNELS 16
MODEL.RESNETS.STEM_OUT_CHANNELS 8 MODEL.RESNETS.WIDTH_PER_GROUP 4 MODEL.CLASSIFIER.FC_DIM 8 INPUT.SIZE_TEST 64
MODEL.ROI_BOX_HEAD.FC_DIM 8 SOLVER.MAX_ITER 1 SOLVER.STEPS () SOLVER.WARMUP_ITERS 0 SOLVER.IMS_PER_BATCH 4
KD.FEATURE.MAX_ITER 1 KD.PREDICTION.MAX_ITER 1 INPUT.SIZES_TRAIN (64,) DATASETS.PROPOSALS.TOP_K 10
DATALOADER.NUM_WORKERS 0"""
# Folders under output/ that are copies of a study, or of its parts.
COPIES = [(name, "") for name in ("holiday", "animals", "comparison", "scenes", "pets_comparison")]
COPIES += [("scenes", "seed1"), ("teacher", "seed1/teacher")]


def read_page(page: Path) -> str:
    """Return the text of a page with its code indented, also the code in fences."""
    return FENCED.sub(lambda code: textwrap.indent(code[1], "    "), page.read_text(encoding="utf-8"))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> list[tuple[str, str]]:
    """Go to an empty folder, and return each command with the text that it comes from, pages before help texts."""
    monkeypatch.chdir(tmp_path)
    texts = [read_page(page) for page in PAGES]
    for text in texts:
        for name, content in re.findall(r"^ +(?:#|cat >) (\S+\.yaml).*\n((?: +[A-Z_]+:.*\n)+)", text, re.MULTILINE):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(textwrap.dedent(content).replace("model_0000149", "model_final"))
    for name in [name for name in COMMANDS if not OTHERS.search(name)]:
        monkeypatch.setattr("sys.argv", ["mlickd", name, "--help"])
        with pytest.raises(SystemExit):
            main()
        texts.append(capsys.readouterr().out)
        assert texts[-1].startswith(f"usage: mlickd {name} ") and "--debug" in texts[-1] and "tools/" not in texts[-1]
    lines = [(line, text) for text in texts for line in re.sub(r"\\\n\s*", "", text).splitlines()]
    return [(line.strip(), text) for line, text in lines if COMMAND.match(line) and not OTHERS.search(line)]


def expand(line: str) -> tuple[str, list[str]]:
    """Return the module of a command and its arguments, expanded by bash, after the replacements, for a small model."""
    for pattern, stand_in in STAND_INS.items():
        line = re.sub(pattern, stand_in, line)
    script = f'python() {{ cat > stdin; printf "%s\\n" "$@"; }}; mlickd() {{ python mlickd "$@"; }}\n{line}'
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    name, *arguments = subprocess.run(["bash", "-c", script], check=True, **pipes).stdout.splitlines()
    module = TOOL.fullmatch(name)[1] or COMMANDS[arguments.pop(0)]
    if module == "compare" and "--methods" not in arguments:
        arguments[:0] = ["--methods", "baseline,distilled"]
    if module in ("train_net", "cache_knowledge", "quickstart", "compare"):
        arguments += shlex.split(SMALL)
        if re.search("configs/(voc07/)?[a-z]+_vgg16|voc07_", line):
            arguments += ["DATASETS.TRAIN", "('animals_train',)", "DATASETS.TEST", "('animals_test',)"]
    return module, arguments


def test_commands_are_accepted(commands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    parse_args, parsed = CommandParser.parse_args, []

    def parse_only(parser: CommandParser) -> None:
        parsed.append(parse_args(parser))
        raise EOFError

    monkeypatch.setattr(CommandParser, "parse_args", parse_only)
    for line, _ in commands:
        module, arguments = expand(line)
        monkeypatch.setattr("sys.argv", [f"tools/{module}.py", *arguments])
        with pytest.raises(EOFError):
            importlib.import_module(f"mlickd.cli.{module}").main()
        args = vars(parsed[-1])
        file, options = str(args.get("config_file")), args.get("opts", [])
        if file.startswith("configs/"):
            load_config(file, options, args.get("kd_stage"))
        else:
            merge_options(default_config(), options)
        configs = args.get("configs") or "."
        assert Path(find_config(configs)).is_dir() or configs in ("shorter", "longer"), line  # docs/when.md says how
    assert len({text for _, text in commands if text.startswith("usage: ")}) == len(COMMANDS) - 1, "each has an example"


def call(module: str, arguments: list[str], log: str = "log") -> SimpleNamespace:
    """Run a command in a fork, with the file `stdin` as its standard input, and return its status like a `Popen`."""

    def work() -> None:
        sys.argv, sys.stdin = [f"tools/{module}.py", *arguments], open("stdin")
        start = lambda command, stdout, **_: call(COMMANDS[command[3]], command[4:], stdout.name)  # noqa: E731
        jobs.subprocess = SimpleNamespace(Popen=start, STDOUT=subprocess.STDOUT)
        run_tool(importlib.import_module(f"mlickd.cli.{module}").main)

    status = wait_or_kill(fork(work, Path(log)), 600)
    return SimpleNamespace(poll=lambda: status, wait=lambda: status)


def write_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the current folder, which is also the home, with the files that the commands name."""
    monkeypatch.setenv("HOME", os.getcwd())
    monkeypatch.setenv("DETECTRON2_DATASETS", f"{os.getcwd()}/datasets")
    Path("stdin").touch()
    Path("last.csv").touch()
    monkeypatch.setattr(scenes, "COUNTS", {"train": 40, "test": 8, "val": 8, "labeled": 16, "more": 8, "extra": 8})
    monkeypatch.setattr(scenes, "SIDE", 64)
    monkeypatch.setitem(image_proposals._COMMON, "longer_side", 64)
    data = scenes.ensure_scenes("datasets")
    for name in ("animals", "pets"):
        shutil.copytree(data, f"datasets/{name}")
    Path("datasets/photos").symlink_to("../output/holiday/data/photos")  # of the quickstart in README.md
    for name in ("photos", "new", "more"):
        shutil.copytree(data / "images", name, ignore=lambda _, names: sorted(names)[2:])
    shutil.copy(next(Path("photos").iterdir()), "photo.jpg")
    shutil.copytree(data / "images", "album")
    shutil.copy(data / "labels_train.csv", "album.csv")
    run("generate_proposals", ["--dataset", "pets_train", "pets_test", "animals_test"])
    run(*expand("mlickd quickstart"))
    without = {"ignore": shutil.ignore_patterns("scenes_train@*")}  # results on held-out images
    for copy, part in COPIES:
        shutil.copytree(f"output/quickstart/{part}", f"output/{copy}", dirs_exist_ok=True, **without)
    run("export_student", ["--run", "output/quickstart", "--output", "student.onnx"])
    shutil.copy("output/scenes/baseline/inference/scenes_test/image_scores.npz", "my_scores.npz")
    for name in ("edge", "mcg"):
        shutil.copytree("datasets/proposals/animals_test_edge_boxes", f"{name}_proposals")


def run(module: str, arguments: list[str]) -> None:
    Path("log").unlink(missing_ok=True)
    if (
        option := {"cache_knowledge": "KD.CACHE", "predict": "--save", "export_student": "--hub"}.get(module)
    ) in arguments:
        shutil.rmtree(arguments[arguments.index(option) + 1], ignore_errors=True)  # of another command
    assert call(module, arguments).wait() == 0, f"{shlex.join([module, *arguments])}\n{Path('log').read_text()[-3000:]}"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_commands_run(commands: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.setNumThreads(0)  # ends the threads of OpenCV: a fork does not have them, and would wait for them for ever
    write_world(monkeypatch)
    left_out = [line for part in LEFT_OUT for line, _ in commands if re.search(part, line)]
    done: list[tuple[str, list[str]]] = []
    for line, _ in commands:
        if line not in left_out and (command := expand(line)) not in done:
            run(*command)
            done.append(command)
    print(f"{len(commands)} commands: {len(done)} different ones ran, {len(left_out)} are left out")
