"""The whole method as a row of command lines: proposals, teacher, its knowledge, student without, both stages."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from mlickd.data import proposals_path
from mlickd.data.catalog import dataset_root
from mlickd.data.digest import file_digest
from mlickd.distillation.cache import shard_folder
from mlickd.distillation.cache.header import HEADER_FILE
from mlickd.errors import InputError

from .setup import STUDENT_CHECKPOINT, load_config

__all__ = ["Pipeline", "Step"]

logger = logging.getLogger(__name__)

# What commands print: colours of the configuration, Detectron2's CommonMetricPrinter and its evaluation, tqdm's bars.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_ITERATION = re.compile(r"^  MAX_ITER: (\d+)")
_ITERATION = re.compile(r"\biter: (\d+)\b.*?total_loss: ([\d.naif+-]+)")
_COUNT = re.compile(r"(Inference done|^[\w.-]+: ).*?\b(\d+)/(\d+)\b")


@dataclass(frozen=True)
class Step:
    """One command of the pipeline.

    Attributes:
        name: the folder of its results under the run's folder; also the name of its log file.
        title: for the reader.
        command: arguments behind ``python``.
        result: a file that the command leaves when it has ended well.
        folder: where its log and its record are, below ``logs``.
        reads: a file that is part of what the step is made from.
        makes: a folder that the command goes on with, and that is removed where it is of something else by now.
    """

    name: str
    title: str
    command: list[str]
    result: Path
    folder: Path
    reads: Path | None = None
    makes: Path | None = None


@dataclass
class Pipeline:
    """Trains teacher, student without and student with distillation on one data set with one seed.

    Every step is a command that a user could type; it is printed, its output goes to ``<folder>/logs``, and a step
    that has ended before is not run again.

    Attributes:
        configs: folder with ``wsd.yaml``, ``cls.yaml`` and ``kd.yaml``.
        train, test: names of the data sets.
        folder: where results go.
        seed: of everything random.
        options: ``KEY VALUE`` pairs for all steps.
        method: of the proposals.
        tools: folder of the command lines.
        teacher: folder of a finished teacher to use; None trains one.
    """

    configs: Path
    train: str
    test: str
    folder: Path
    seed: int = 1
    method: str = "edge_boxes"
    options: Sequence[str] = ()
    tools: Path = Path("tools")
    teacher: Path | None = None

    def proposal_step(self) -> Step:
        """Proposals of both data sets; shared by all seeds, and quick where they are there already."""
        names = dict.fromkeys([self.train, self.test])
        command = ["generate_proposals.py", "--dataset", *names, "--method", self.method]
        return Step("proposals", "Proposals", self._tool(command), proposals_path(self.test, self.method), self.folder)

    def training_steps(self) -> list[Step]:
        """The steps in order; the two stages of distillation are one model, and read what the teacher said once."""
        teacher = self.teacher or self.folder / "teacher"
        steps = [] if self.teacher else [self._training("teacher", "Teacher", "wsd.yaml", teacher)]
        # Of a teacher that all seeds share, there is one cache, made once.
        home = self.folder.parent if self.teacher else self.folder
        weights = teacher / "model_final.pth"
        knowledge = ["KD.TEACHER.WEIGHTS", str(weights), "KD.CACHE", str(home / "knowledge")]
        steps.append(self._caching(home, weights, knowledge))
        steps.append(self._training("without", "Student without distillation", "cls.yaml", self.folder / "without"))
        for stage in ("feature", "prediction"):
            title = f"Student with distillation, stage {stage}"
            folder = self.folder / "with"
            steps.append(self._training(f"with/{stage}", title, "kd.yaml", folder, knowledge, stage))
        return steps

    def run(self) -> dict[str, float]:
        """Run all steps.

        Returns:
            The seconds of each by name; of a step that was done before, those that it took then. Seeds that share a
            teacher all have the seconds of the one cache that they read.
        """
        seconds, digest = {}, ""
        for step in [self.proposal_step(), *self.training_steps()]:
            seconds[step.name], digest = self._run_step(step, digest)
        return seconds

    def _training(
        self, name: str, title: str, config: str, folder: Path, options: Sequence[str] = (), stage: str = ""
    ) -> Step:
        command = ["train_net.py", "--config-file", str(self.configs / config)]
        if stage:
            command += ["--kd-stage", stage]
        command += self._options(["SEED", str(self.seed), "OUTPUT_DIR", str(folder), *options])
        # Stage 1 is not evaluated: what it leaves is the student that stage 2 starts from.
        result = folder / stage / (STUDENT_CHECKPOINT if stage == "feature" else "results.json")
        return Step(name, title, self._tool(command), result, self.folder)

    def _caching(self, home: Path, weights: Path, options: Sequence[str]) -> Step:
        command = ["cache_knowledge.py", "--config-file", str(self.configs / "kd.yaml"), "--batch-size", "16"]
        # The same for all seeds: what a teacher says is not random.
        command += self._options(options)
        cache = home / "knowledge"
        result = shard_folder(cache, self.train, (1, 1)) / HEADER_FILE
        title = "What the teacher says of the training images"
        return Step("knowledge", title, self._tool(command), result, home, reads=weights, makes=cache)

    def _options(self, options: Sequence[str]) -> list[str]:
        """What all steps share, and what one adds to it."""
        data = ["DATASETS.TRAIN", f"('{self.train}',)", "DATASETS.TEST", f"('{self.test}',)"]
        data += ["DATASETS.PROPOSALS.METHOD", self.method]
        return [*data, *options, *self.options]

    def _tool(self, command: Sequence[str]) -> list[str]:
        return [str(self.tools / command[0]), *command[1:]]

    def _run_step(self, step: Step, before: str = "") -> tuple[float, str]:
        """Run a step unless it has ended before with the same command, configuration and steps before it.

        Returns:
            Its seconds, and a digest of all that.
        """
        logs = step.folder / "logs"
        record = logs / "steps.json"
        done = json.loads(record.read_text()) if record.is_file() else {}
        digest = self._digest(step, before)
        last = done.get(step.name, {})
        if last.get("digest") == digest and "seconds" in last and step.result.exists():
            logger.info("%s: done before, in %.0f s", step.title, last["seconds"])
            return last["seconds"], digest
        logs.mkdir(parents=True, exist_ok=True)
        done[step.name] = {"digest": digest}
        if step.makes:
            # A folder that was there before the first run is none of this pipeline's, and stays.
            made = last.get("made", not step.makes.exists())
            if made and step.makes.is_dir() and last.get("digest", digest) != digest:
                logger.info("%s: %s is of something else by now, and is made again", step.title, step.makes)
                shutil.rmtree(step.makes)
            done[step.name]["made"] = made
        record.write_text(json.dumps(done, indent=2))
        logger.info("%s\n  $ python %s", step.title, shlex.join(step.command))
        start = time.perf_counter()
        _run_with_progress(step, logs / f"{step.name.replace('/', '_')}.log")
        done[step.name]["seconds"] = time.perf_counter() - start
        record.write_text(json.dumps(done, indent=2))
        return done[step.name]["seconds"], digest

    def _digest(self, step: Step, before: str) -> str:
        configuration = ""
        if "--config-file" in step.command:
            configuration = load_config(step.command[step.command.index("--config-file") + 1], []).dump()
        parts = [before, configuration, str(dataset_root()), *step.command]
        if step.reads and step.reads.is_file():
            parts.append(file_digest(step.reads))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _run_with_progress(step: Step, log: Path) -> None:
    """Run a command, its output to ``log``, with a bar that follows its iterations and those of its own bars."""
    bar = tqdm(desc=f"  {step.name}", dynamic_ncols=True, bar_format="{desc}: {n_fmt}/{total_fmt} [{elapsed}{postfix}]")
    ended = threading.Event()

    def keep_alive() -> None:
        while not ended.wait(2.0):
            bar.refresh()

    with open(log, "w", buffering=1) as file, bar:
        threading.Thread(target=keep_alive, daemon=True).start()
        process = subprocess.Popen(
            [sys.executable, *step.command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        iterations = 0
        for line in process.stdout:
            file.write(line)
            line = _COLOUR.sub("", line)
            if match := _MAX_ITERATION.match(line):
                iterations = int(match[1])
            elif match := _ITERATION.search(line):
                bar.n, bar.total = int(match[1]) + 1, iterations
                bar.set_postfix_str(f"training, loss {match[2]}")
            elif match := _COUNT.search(line):
                bar.n, bar.total = int(match[2]), int(match[3])
                bar.set_postfix_str(match[1].strip(": "))
        ended.set()
    if process.wait() != 0:
        last = log.read_text().strip().splitlines()[-1:]
        raise InputError(f"{step.title} has failed with status {process.returncode}: {' '.join(last)} (see {log})")
