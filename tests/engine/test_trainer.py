"""Keys of the configuration reach the training: initial weights, the loop, the evaluation, and a resumed run."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from helpers.small_trainer import finish, make_trainer
from mlickd.engine.input_checks import check_inputs
from mlickd.errors import InputError
from mlickd.runs import write_class_names
from mlickd.studies.threshold_tuning import compute_scores


def test_a_training_starts_from_the_weights_of_its_configuration(tiny_scenes: Path, tmp_path: Path) -> None:
    plain = make_trainer(tmp_path / "plain").model.state_dict()
    state = {name: torch.rand(value.shape) for name, value in plain.items() if value.is_floating_point()}
    torch.save({"model": state}, tmp_path / "model.pth")
    for key, part in (("MODEL.WEIGHTS", ""), ("MODEL.BACKBONE.WEIGHTS", "backbone.")):
        trainer = make_trainer(tmp_path / "run", key, str(tmp_path / "model.pth"))
        trainer.resume_or_load(resume=False)
        for name, value in trainer.model.state_dict().items():
            if name in state:
                assert torch.equal(value, state[name] if name.startswith(part) else plain[name]), (key, name)


def test_keys_of_the_solver_reach_the_loop(tiny_scenes: Path, tmp_path: Path) -> None:
    options = ["SOLVER.GRAD_ACCUM_STEPS", 2, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16"]
    options += ["SOLVER.KEEP_CHECKPOINTS", 1, "SOLVER.CHECKPOINT_PERIOD", 1]
    trainer, seen = make_trainer(tmp_path, *options), []
    layer = trainer.model.backbone.conv1_1
    layer.register_forward_hook(lambda module, inputs, output: seen.append((len(output), output.dtype)))
    finish(trainer)
    assert seen[:8] == 8 * [(2, torch.bfloat16)] and seen[8][1] == torch.float32, "in the evaluation"
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000003.pth", "model_final.pth"]


def test_keys_of_the_evaluation_reach_the_reports(tiny_scenes: Path, tmp_path: Path) -> None:
    options = ("TEST.AVERAGE_PRECISION", "voc07", "TEST.TOP_K", 5, "TEST.THRESHOLD", 0.3, "MODEL.DEVICE", "cpu")
    finish(make_trainer(tmp_path, *options))
    compute_scores(tmp_path, "tiny_test")
    for folder in (tmp_path, tmp_path / "evaluation"):
        protocol = json.loads((folder / "inference/tiny_test/multilabel_results.json").read_text())["protocol"]
        assert (protocol["ap"], protocol["topk"], protocol["threshold"]) == ("voc07", 5, 0.3)


def test_a_finished_run_can_be_resumed_for_more_iterations(tiny_scenes: Path, tmp_path: Path) -> None:
    whole = finish(make_trainer(tmp_path / "whole", "SOLVER.MAX_ITER", 6))
    finish(make_trainer(tmp_path / "run"))
    longer = make_trainer(tmp_path / "run", "SOLVER.MAX_ITER", 6)
    result = finish(longer, resume=True)
    assert longer.start_iter == 4 and all(torch.equal(value, whole[name]) for name, value in result.items())


def test_a_run_of_another_optimizer_or_other_classes_is_not_resumed(tiny_scenes: Path, tmp_path: Path) -> None:
    first = make_trainer(tmp_path)
    finish(first)
    for option in (
        ("SOLVER.OPTIMIZER", "ADAMW"),
        ("SOLVER.LAST_LAYER_LR_FACTOR", 10.0),
        ("SOLVER.BASE_LR", 0.3),
        ("SOLVER.WEIGHT_DECAY", 0.3),
        ("SOLVER.MOMENTUM", 0.3),
    ):
        with pytest.raises(InputError, match="--resume: the run has another optimizer"):
            make_trainer(tmp_path, *option).resume_or_load(resume=True)
    names = (tiny_scenes / "tiny" / "classes.txt").read_text().split("\n")[:20]
    write_class_names(tmp_path, names)
    check_inputs(first.cfg, resume=True)
    write_class_names(tmp_path, names[::-1])
    with pytest.raises(InputError, match=r"--resume .*classes\.txt has other classes"):
        check_inputs(first.cfg, resume=True)


def test_a_signal_ends_the_last_evaluation_and_earlier_results_are_gone(tiny_scenes: Path, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, "TEST.EVAL_PERIOD", 2)
    evaluate, counts = trainer.test, []

    def test(cfg, model):
        counts.append(trainer.iter)
        if trainer.iter == trainer.max_iter:
            os.kill(os.getpid(), signal.SIGINT)
        return evaluate(cfg, model)

    trainer.test = test
    with pytest.raises(KeyboardInterrupt):
        finish(trainer)
    assert counts[0] == 1 and (tmp_path / "model_final.pth").is_file()
    assert not (tmp_path / "results.json").exists() and not (tmp_path / "inference").exists()
    finish(make_trainer(tmp_path), resume=True)
    assert (tmp_path / "results.json").is_file()
