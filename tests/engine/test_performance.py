"""A compiled backbone changes neither results nor checkpoints; freed memory is there for the next step."""

from __future__ import annotations

import copy
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

from helpers.small_models import make_batch, save_teacher, student_config, teacher_config
from mlickd.engine.training_loop import compile_backbone
from mlickd.errors import InputError

# Counts the pages that the system hands out while 32 MB are taken, used and freed ten times, before and after. It is a
# process of its own, because the C library does not forget the setting.
COUNT_PAGES = """
import resource
import torch
from mlickd.engine.process_setup import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = pages()
keep_freed_memory()
pages()
print(default, pages())
"""


@pytest.mark.parametrize("kind", ["teacher", "prediction"])
def test_a_compiled_model_has_the_same_keys_and_results(kind: str, tmp_path: Path) -> None:
    cfg = teacher_config() if kind == "teacher" else student_config(save_teacher(tmp_path), kind)
    model = build_model(cfg).eval()
    compiled = copy.deepcopy(model)
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable:
        graphs.append(graph)
        return graph.forward

    compile_backbone(compiled, backend)
    graphs.clear()
    batch = make_batch()
    with torch.no_grad():
        scores = [torch.stack([o["image_scores"] for o in m(batch)]) for m in (model, compiled)]
    torch.testing.assert_close(*scores)
    (graph,) = graphs
    assert sum(node.target is torch.conv2d for node in graph.graph.nodes) == 8
    assert list(compiled.state_dict()) == list(model.state_dict())


def test_a_machine_that_cannot_compile_is_refused_in_one_line() -> None:
    def broken(graph, inputs):
        raise RuntimeError("no compiler found\nand a page about it")

    with pytest.raises(InputError, match=r"SOLVER.COMPILE: .*no compiler found") as error:
        compile_backbone(build_model(teacher_config()), backend=broken)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory")
def test_memory_that_was_freed_is_not_asked_of_the_system_again() -> None:
    process = subprocess.run([sys.executable, "-c", COUNT_PAGES], capture_output=True, text=True, check=True)
    default, kept = map(int, process.stdout.split())
    # With fewer than one page for each tensor, pages are so large that there is nothing to count.
    if default < 20:
        pytest.skip(f"the system hands out 320 MB in {default} pages")
    assert kept < default / 2
