"""Methods by their configuration files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlickd.errors import InputError
from mlickd.studies.methods import choose_methods, group_by_cache, write_method_file

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    """The configurations of `scenes`, and some methods."""
    for name in ("cls", "kd"):
        (tmp_path / f"{name}.yaml").write_text(f'_BASE_: "{CONFIGS / "scenes" / f"{name}.yaml"}"\n')
    (tmp_path / "methods").mkdir()
    write_method(tmp_path, "light", "KD: {PREDICTION: {WEIGHT: 0.5}}")
    write_method(tmp_path, "few_regions", "KD: {REGIONS: {TOP_K: 2}}")
    write_method(tmp_path, "plain_long", "MODEL: {META_ARCHITECTURE: MultiLabelClassifier}\nSOLVER: {MAX_ITER: 900}")
    return tmp_path


def write_method(configs: Path, name: str, text: str) -> None:
    (configs / "methods" / f"{name}.yaml").write_text(f'_BASE_: "../kd.yaml"\n{text}\n')


def test_all_methods_of_a_folder_or_those_that_are_named(configs: Path) -> None:
    everything = choose_methods(configs)
    assert [method.name for method in everything] == ["baseline", "distilled", "few_regions", "light", "plain_long"]
    assert [method.name for method in choose_methods(configs, ["light", "baseline"])] == ["light", "baseline"]
    by_name = {method.name: method for method in everything}
    assert by_name["baseline"].stages == by_name["plain_long"].stages == ()
    assert by_name["light"].stages == ("feature", "prediction")
    assert by_name["light"].iterations == (60, 340) and by_name["plain_long"].iterations == (900,)
    with_option = choose_methods(configs, ["distilled"], ["KD.FEATURE.MAX_ITER", "7"])
    assert with_option[0].iterations == (7, 340)


def test_methods_share_a_cache_where_it_would_be_the_same(configs: Path) -> None:
    groups = group_by_cache(choose_methods(configs))
    assert [[method.name for method in group] for group in groups] == [["distilled", "light"], ["few_regions"]]
    write_method(configs, "unmirrored", "INPUT: {RANDOM_FLIP: none}")
    write_method(configs, "release", "KD: {FEATURE: {COMPARE: box_head}}")
    assert len(group_by_cache(choose_methods(configs))) == 4
    alike = choose_methods(configs, (), ["KD.REGIONS.TOP_K", "5"])
    assert ["distilled", "few_regions", "light"] in [
        [method.name for method in group] for group in group_by_cache(alike)
    ]


def test_methods_that_are_wrong_are_named(configs: Path) -> None:
    with pytest.raises(
        InputError, match="--methods fitnet: there is none in .*; give one of baseline, distilled, few_regions"
    ):
        choose_methods(configs, ["baseline", "fitnet"])
    with pytest.raises(InputError, match="--methods distilled: named twice"):
        choose_methods(configs, ["distilled", "distilled"])
    write_method(configs, "unknown", "KD: {PREDICTION: {DISTILLER: Hintn}}")
    with pytest.raises(InputError, match=r"unknown.yaml: KD.PREDICTION.DISTILLER 'Hintn' is none of Hinton"):
        choose_methods(configs, ["baseline", "unknown"])
    write_method(configs, "detector", "MODEL: {META_ARCHITECTURE: WeaklySupervisedDetector}")
    with pytest.raises(InputError, match="detector.yaml: .*WeaklySupervisedDetector is no student"):
        choose_methods(configs)
    (configs / "methods" / "detector.yaml").unlink()
    write_method(configs, "distilled", "")
    with pytest.raises(InputError, match="give the file another name"):
        choose_methods(configs)


@pytest.mark.parametrize("name", ["teacher", "knowledge", "knowledge-light", "logs", "proposals"])
def test_no_method_has_the_name_of_another_folder(configs: Path, name: str) -> None:
    write_method(configs, name, "")
    with pytest.raises(InputError, match=f"{name}.yaml: {name} is a name for what is not a student; give the file"):
        choose_methods(configs, ["baseline"])


def test_what_a_method_names_otherwise_than_kd_yaml_is_its_own(configs: Path, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere.yaml"
    values = {
        "DATASETS.TRAIN": ("a_train@1of2", "a_train@2of2"),
        "DATASETS.UNLABELED": ("more_photos",),
        "KD.TEACHER.WEIGHTS": str(tmp_path / "teachers" / "{dataset}.pth"),
        "KD.CACHE": str(tmp_path / "cache"),
    }
    write_method_file(file, configs / "kd.yaml", values, "Written by a test.")
    shared, own = choose_methods(configs, ["distilled"], files={"crossed": file})
    assert (shared.train, shared.unlabeled, shared.teacher, shared.cache) == ((), (), "", "")
    assert own.name == "crossed" and own.stages == shared.stages
    assert own.train == values["DATASETS.TRAIN"] and own.unlabeled == values["DATASETS.UNLABELED"]
    assert own.teacher == values["KD.TEACHER.WEIGHTS"] and own.cache == values["KD.CACHE"]
    assert len(group_by_cache([shared, own])) == 2


def test_methods_of_one_teacher_of_their_own_share_a_cache(configs: Path) -> None:
    for name, weight in (("early_light", 0.5), ("early_heavy", 2.0)):
        write_method(configs, name, f"KD: {{TEACHER: {{WEIGHTS: early.pth}}, PREDICTION: {{WEIGHT: {weight}}}}}")
    groups = group_by_cache(choose_methods(configs, ["distilled", "early_light", "early_heavy"]))
    assert [[method.name for method in group] for group in groups] == [["distilled"], ["early_light", "early_heavy"]]
    assert {method.teacher for method in groups[1]} == {str(Path("early.pth").resolve())}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("light", "the method light is .*light.yaml; give another name"),
        ("teacher", "'teacher' is no name for the folder of a student"),
        ("../elsewhere", "is no name for the folder of a student"),
        ("..", "is no name for the folder of a student"),
    ],
)
def test_a_method_from_elsewhere_has_a_name_of_its_own(configs: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"--method-file {name}=.*: .*{message}"):
        choose_methods(configs, ["distilled"], files={name: configs / "kd.yaml"})
