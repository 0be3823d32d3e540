"""Hooks of the trainer: stops by signals, statistics of batch normalization, and the checkpoint of the student."""

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch.nn.modules.batchnorm import _BatchNorm

from mlickd.files import atomic_writer
from mlickd.runs import STUDENT_CHECKPOINT

from .checkpointing import FINAL, checkpoint_name
from .processes import LOCKS, max_over_processes, set_stop_handlers

logger = logging.getLogger(__name__)

# The terminal and the launcher may both deliver one Ctrl-C. A SIGINT within this number of seconds of the first is the
# same request.
_DEBOUNCE_SECONDS = 1.0


class StopHook(HookBase):
    """Stops training on SIGINT, SIGTERM or SIGHUP: saves a checkpoint, logs a line, and exits with 128 + signal.

    All processes stop after the same iteration: the current one, or the iteration before if a process waits for a
    batch, which may never arrive. A second SIGINT ends a process immediately. A second SIGTERM does not, because
    schedulers send SIGTERM to all processes, and launchers may send it again.
    """

    def __init__(self):
        self._handlers_before: dict = {}
        self._signal, self._first_interrupt, self._lacks_batch = 0, 0.0, False

    def before_train(self) -> None:
        """Set the handlers, see :func:`set_stop_handlers`."""
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            self._handlers_before = set_stop_handlers(self._request)

    def after_step(self) -> None:
        """Raise SystemExit with status 128 + signal if any process has received a signal."""
        if request := max_over_processes(self._signal):
            self._stop(request)

    def read_batch(self, batches: Iterator[list[dict]]) -> list[dict]:
        """Return the next batch. If a signal interrupts the wait of a process, stop all after the iteration before."""
        try:
            batch = self._next_batch(batches)
        except BaseException:  # after a signal, also the errors of killed workers
            if not self._lacks_batch:
                raise
            batch = []
        if request := max_over_processes(self._signal if self._lacks_batch else 0):
            if self.trainer.iter == self.trainer.start_iter:
                raise SystemExit(128 + request)  # no iteration has ended, so a checkpoint is not needed
            self.trainer.iter -= 1
            self._stop(request)
        return batch

    def _next_batch(self, batches: Iterator[list[dict]]) -> list[dict]:
        return next(batches)

    def _stop(self, request: int) -> None:
        iteration = self.trainer.iter
        name = FINAL if iteration + 1 >= self.trainer.max_iter else checkpoint_name(iteration)
        self.trainer.checkpointer.save(name, iteration=iteration)
        # When a process ends, the launcher ends the others. Wait until the first process has saved.
        comm.synchronize()
        message = "Stopped by %s after iteration %d: the same command with --resume continues from %s.pth"
        logger.info(message, signal.Signals(request).name, iteration, name)
        raise SystemExit(128 + request)

    def restore_handlers(self) -> None:
        """Restore the handlers before the last evaluation, which a signal ends immediately: the checkpoint is saved."""
        while self._handlers_before:
            signal.signal(*self._handlers_before.popitem())

    def after_train(self) -> None:
        """Restore the handlers, and allow other processes to train in the folder."""
        LOCKS.close()
        self.restore_handlers()

    def _request(self, kind: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # this is a forked worker that has not set its handlers yet
        if not self._signal:
            self._signal = kind
            if comm.is_main_process():
                # The signal may interrupt the logger, so write directly.
                name = signal.Signals(kind).name
                message = f"{name}: training stops after this iteration; a second Ctrl-C ends it immediately\n"
                with suppress(OSError):  # the terminal is closed
                    os.write(2, message.encode())
        if kind == signal.SIGINT:
            now = time.monotonic()
            self._first_interrupt = self._first_interrupt or now
            if now - self._first_interrupt > _DEBOUNCE_SECONDS:
                signal.signal(kind, signal.SIG_DFL)
                os.kill(os.getpid(), kind)
        while frame is not None and frame.f_code is not StopHook._next_batch.__code__:
            frame = frame.f_back
        if frame is not None:
            self._stop_waiting()

    def _stop_waiting(self) -> None:
        """End the workers of the loader, and raise SystemExit."""
        self._lacks_batch = True
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise an error for a killed worker
        for process in multiprocessing.active_children():
            if process.daemon:
                process.kill()
        raise SystemExit(128 + self._signal)


class AverageBatchNormHook(HookBase):
    """Averages the running statistics of batch normalization over all processes after each step.

    Each process computes statistics from its images. Without this hook, a checkpoint would contain the statistics of
    the first process, and the processes of an evaluation would use different statistics.
    """

    def after_step(self) -> None:
        """Average the statistics that this step has changed."""
        statistics = [
            buffer
            for module in self.trainer.model.modules()
            if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
            for buffer in (module.running_mean, module.running_var)
        ]
        if comm.get_world_size() == 1 or not statistics:
            return
        together = torch.cat([buffer.flatten() for buffer in statistics])
        dist.all_reduce(together)
        together /= comm.get_world_size()
        for buffer, mean in zip(statistics, together.split([b.numel() for b in statistics]), strict=True):
            buffer.copy_(mean.view_as(buffer))


class SaveStudentHook(HookBase):
    """Writes the student of a distillation after training, as a checkpoint of a plain classifier."""

    def after_train(self) -> None:
        """Write ``student.pth`` if training has reached the last iteration."""
        if self.trainer.iter < self.trainer.max_iter:
            return
        path = Path(self.trainer.cfg.OUTPUT_DIR) / STUDENT_CHECKPOINT
        student = self.trainer.checkpointer.model.student
        with atomic_writer(path, "free disk space, then give the same command with --resume") as file:
            torch.save({"model": student.state_dict()}, file)
        logger.info("Student for evaluation and prediction: %s", path)
