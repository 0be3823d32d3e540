"""Commands that run once, and again only if one of their inputs has changed, like targets of Make."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import torch

from mlickd.config_files import read_config_file
from mlickd.data.catalog import dataset_records
from mlickd.data.proposals.store import ProposalStore, image_list_digest, proposals_path
from mlickd.engine.processes import lock_folder, set_stop_handlers
from mlickd.environment import dataset_root, machine_line
from mlickd.errors import InputError
from mlickd.files import check_writable, file_digest, write_json
from mlickd.runs import data_record

logger = logging.getLogger(__name__)

# Unlike `python -m mlickd`, this does not import modules of the working folder, such as a user's queue.py.
_START = "import sys; sys.path = list(filter(None, sys.path)); from mlickd.__main__ import main; main()"
PROGRAM = (sys.executable, "-c", _START)
# Seconds from SIGTERM to SIGKILL, in which a command saves a checkpoint and ends.
_GRACE = 60.0


@dataclass(frozen=True, eq=False)
class Job:
    """A command line that makes a folder.

    Attributes:
        name: the job's folder, relative to ``root``. The log and the record of the job have the same name.
        root: folder of the study.
        command: arguments of ``mlickd``.
        result: file in the job's folder that a finished command has written; empty if the exit status is enough.
        configs: configuration files that the command reads.
        options: options of the command that the result depends on.
        datasets: names of datasets that the result depends on: their labels, images and classes.
        inputs: files and stored proposals whose content the result depends on.
        depends_on: jobs that have to finish before this job.
        is_intermediate: whether the job only prepares others. It runs only if one of them has to run.
        resumes: whether ``--resume`` continues a stopped run.
    """

    name: str
    root: Path
    command: Sequence[str]
    result: str = ""
    configs: Sequence[Path] = ()
    options: Sequence[str] = ()
    datasets: Sequence[str] = ()
    inputs: Sequence[Path] = ()
    depends_on: Sequence[Job] = ()
    is_intermediate: bool = False
    resumes: bool = False

    @property
    def folder(self) -> Path:
        """Folder that the command makes."""
        return self.root / self.name

    @property
    def log(self) -> Path:
        """File with the output of the command."""
        return self.root / "logs" / f"{self.name.replace('/', '+')}.log"

    @property
    def shell_command(self) -> str:
        """The command in the syntax of a shell."""
        return shlex.join(["mlickd", *self.command])

    @cached_property
    def _configurations(self) -> list[dict]:
        return [read_config_file(path, str(path)) for path in self.configs]

    def digest(self) -> str:
        """Return the SHA-256 of everything that the result depends on."""
        datasets = [_dataset_digest(name, dataset_root()) for name in self.datasets]
        parts = [self._configurations, list(self.options), datasets, [_content_digest(path) for path in self.inputs]]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()

    def record(self) -> dict:
        """Return the record of the last call: ``digest``, ``finished``, ``seconds``, ``failure``, machine and jobs."""
        path = self.log.with_suffix(".json")
        return json.loads(path.read_text()) if path.is_file() else {}

    def write_record(self, record: dict) -> None:
        """Write the record of the last call, see :meth:`record`."""
        write_json(self.log.with_suffix(".json"), record)

    def is_done(self) -> bool:
        """Return whether the command has finished and everything that its result depends on is unchanged."""
        record = self.record()
        if not record.get("finished") or not (self.folder / self.result).exists():
            return False
        return record["digest"] == self.digest() and all(
            job.is_intermediate or job.is_done() for job in self.depends_on
        )


def proposal_jobs(
    root: Path, names: Iterable[str], method: str, given: Mapping[str, Path]
) -> tuple[dict[str, Path], list[Job]]:
    """Return the proposals of each whole dataset, and the jobs that make them.

    Uses ``given`` proposals, or else stored proposals of the same images, regardless of their parameters and origin.
    Missing proposals of a read-only folder go to ``root``, the folder of the study.
    """
    paths, jobs, writable = dict(given), [], []
    command = ["generate-proposals", "--method", method, "--dataset"]
    for name in dict.fromkeys(name for name in names if name not in given):
        paths[name] = proposals_path(name, method)
        if _has_proposals(paths[name], name):
            continue
        try:
            if not paths[name].exists():
                check_writable(paths[name])
            writable.append(name)
        except InputError:
            paths[name] = root / f"proposals-{name}-{method}"
            arguments = [*command, name, "--output", str(paths[name])]
            jobs.append(Job(paths[name].name, root, arguments, datasets=[name], is_intermediate=True))
    if writable:
        jobs.append(Job("generate-proposals", root, [*command, *writable], is_intermediate=True))
    return paths, jobs


def jobs_to_run(jobs: Iterable[Job]) -> list[Job]:
    """Return all jobs that are not done, each after the jobs of its ``depends_on`` that are not done."""
    found: dict[Path, Job] = {}

    def add(job: Job) -> None:
        if job.folder not in found and not job.is_done():
            for before in job.depends_on:
                add(before)
            found[job.folder] = job

    for job in jobs:
        add(job)
    return list(found.values())


def run_jobs(
    jobs: Iterable[Job],
    root: Path,
    num_jobs: int = 1,
    first: Sequence[Job] = (),
    after_first: Callable[[], None] = lambda: None,
) -> list[str]:
    """Run all jobs that are not done. A failure stops only the jobs that need the failed job.

    Args:
        jobs: jobs of a study.
        root: folder of the study.
        num_jobs: number of commands that run at the same time. They share the cores.
        first, after_first: jobs that run before all others, and a function that is called when they have ended.

    Returns:
        A line for each failure.

    Raises:
        InputError: another process runs jobs in the folder.
        KeyboardInterrupt: the user or a signal stopped the study. All commands have ended.
    """
    set_stop_handlers(signal.default_int_handler)  # other signals interrupt the study like Ctrl-C
    stopping, slots = threading.Event(), threading.Semaphore(num_jobs)
    futures: dict[Path, Future[str]] = {}

    def run_in_turn(job: Job) -> str:
        """Run a job after the jobs that it needs; return the reason of a failure, or an empty text."""
        # The jobs of `depends_on` were submitted before this job, except for jobs that were done already.
        failed = [
            before.name for before in job.depends_on if before.folder in futures and futures[before.folder].result()
        ]
        if not failed:
            try:
                with slots:
                    return _run_job(job, num_jobs, stopping)
            except BaseException:
                stopping.set()  # the error must not wait for the jobs before this one
                raise
        failure = f"{job.name} was not run, because {failed[0]} failed"
        # The digest stays in the record, so that a stopped run can still be resumed.
        job.write_record({**job.record(), "failure": failure})
        return failure

    with lock_folder(root, f"--output {root}: another command runs in this folder; wait until it has finished"):
        count, waiting = len(jobs_to_run(first)), jobs_to_run([*first, *jobs])
        for job in waiting:  # an earlier failure must not be reported again
            record = job.record()
            if record.pop("failure", ""):
                job.write_record(record)
        with ThreadPoolExecutor(len(waiting) or 1) as pool:
            try:
                for job in waiting[:count]:
                    futures[job.folder] = pool.submit(run_in_turn, job)
                for future in futures.values():
                    future.result()
                after_first()
                for job in waiting[count:]:
                    futures[job.folder] = pool.submit(run_in_turn, job)
                return [failure for future in futures.values() if (failure := future.result())]
            except BaseException:
                stopping.set()
                raise


def _run_job(job: Job, num_jobs: int, stopping: threading.Event) -> str:
    """Run a job if it is not done; return the reason of a failure, or an empty text."""
    if stopping.is_set() or job.is_done():
        return ""
    last, digest = job.record(), job.digest()
    command, environment, resume = list(job.command), dict(os.environ), False
    if job.folder.exists():
        if "digest" not in last:
            failure = f"{job.folder}: was not made by this command; remove it, or give another --output"
            job.write_record({"failure": failure})
            return failure
        resume = job.resumes and last["digest"] == digest
        if resume:
            command.insert(1, "--resume")
        elif last["digest"] != digest:
            shutil.rmtree(job.folder)
    if num_jobs > 1:
        environment["OMP_NUM_THREADS"] = str(max(1, torch.get_num_threads() // num_jobs))
    record = {"digest": digest, "machine": machine_line(), "jobs": num_jobs}
    job.write_record(record)
    logger.info("%s: started, see %s\n  $ %s", job.name, job.log, shlex.join(["mlickd", *command]))
    start = time.perf_counter()
    with job.log.open("ab" if resume else "wb") as log:
        # In a new session, the command does not receive the Ctrl-C of the terminal in addition to our SIGTERM.
        process = subprocess.Popen(
            [*PROGRAM, *command], stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        while process.poll() is None:
            if stopping.wait(0.1):
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)
                process.kill()
    seconds, status = time.perf_counter() - start, process.wait()
    if status == 0 and (not job.result or (job.folder / job.result).exists()):
        # The total time of a resumed run is unknown.
        job.write_record({**record, "finished": True, "seconds": None if resume else seconds})
        logger.info("%s: done in %.0f s", job.name, seconds)
        return ""
    if stopping.is_set():
        return ""
    reason = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with status {status}"
    lines = job.log.read_text(errors="replace").strip().splitlines()[-1:]
    failure = f"{job.name} {': '.join([reason, *lines])} (see {job.log})"
    job.write_record({**record, "failure": failure})
    logger.info("%s", failure)
    return failure


def _has_proposals(path: Path, dataset: str) -> bool:
    with suppress(InputError):
        return ProposalStore(path).header["image_digest"] == image_list_digest(dataset_records(dataset, boxes=False))
    return False


def _content_digest(path: Path) -> str:
    """Return a digest of a file or of stored proposals; ``missing`` if they are missing or incomplete."""
    if path.is_dir():
        with suppress(InputError):
            return ProposalStore(path).digest
    return file_digest(path) if path.is_file() else "missing"


@cache
def _dataset_digest(name: str, _root: Path) -> list[str]:
    """Return the digests of labels and images, which are cached because many images take a while."""
    return [data_record(name)["sha256"], image_list_digest(dataset_records(name, boxes=False))]
