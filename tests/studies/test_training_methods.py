"""The configurations of methods, and the methods that share a knowledge cache."""

from pathlib import Path

import pytest

from mlickd.engine import load_config
from mlickd.errors import InputError
from mlickd.studies.training_methods import Method, choose_methods

CONFIGS = Path(__file__).parents[2] / "configs"
METHODS = {
    "few_regions": "KD: {REGIONS: {TOP_K: 4}}",
    "light": "KD: {PREDICTION: {WEIGHT: 0.5, MAX_ITER: 0}, METHOD_STAGES: ['prediction']}",
    "plain_long": f"_BASE_: {CONFIGS / 'scenes/cls.yaml'}\nSOLVER: {{MAX_ITER: 800}}",
}


def choose(folder: Path, *names: str, options: tuple[str, ...] = (), **files: str) -> list[Method]:
    paths = {}
    for name, text in (METHODS | files).items():
        paths[name] = [folder / f"{name}.yaml"]
        paths[name][0].write_text(text)
    settings = {"train": "scenes_train", "options": options}
    return choose_methods(CONFIGS / "scenes", names, paths, **settings)


def test_a_method_changes_keys_of_the_paper_s_method(tmp_path: Path) -> None:
    chosen = choose(tmp_path)
    assert [method.name for method in chosen] == ["baseline", "distilled", *METHODS]
    by_name = {method.name: method for method in chosen}
    assert by_name["baseline"].stages == by_name["plain_long"].stages == ()
    assert by_name["distilled"].stages == ("feature", "prediction") and by_name["light"].stages == ("prediction",)
    iterations = {name: method.iterations for name, method in by_name.items()}
    assert (iterations["baseline"], iterations["distilled"], iterations["light"]) == ([400], [60, 340], [400])
    assert iterations["plain_long"] == [800]
    cfg = load_config(by_name["light"].config_file, [])
    assert cfg.KD.PREDICTION.WEIGHT == 0.5 and cfg.KD.FEATURE.LAYERS == by_name["distilled"].cfg.KD.FEATURE.LAYERS
    (longer,) = choose(tmp_path, "distilled", options=("KD.FEATURE.MAX_ITER", "7"))
    assert longer.iterations == [7, 340]


def test_methods_that_need_the_same_knowledge_share_a_cache(tmp_path: Path) -> None:
    text = "KD: {{TEACHER: {{WEIGHTS: early.pth}}, PREDICTION: {{WEIGHT: {}}}}}"
    early = {name: text.format(weight) for name, weight in (("early1", 1.0), ("early2", 2.0))}
    students = ("distilled", "few_regions", "light", *early)
    distilled, few_regions, light, *others = choose(tmp_path, *students, **early)
    assert distilled.cache_key == light.cache_key and others[0].cache_key == others[1].cache_key
    assert choose(tmp_path, "baseline")[0].cache_key == "", "it has no cache, even if these keys are equal"
    assert len({distilled.cache_key, few_regions.cache_key, others[0].cache_key}) == 3
    weights = [method.cfg.KD.TEACHER.WEIGHTS for method in (distilled, *others)]
    assert weights == ["", "early.pth", "early.pth"]
    alike = choose(tmp_path, *students[:3], options=("KD.REGIONS.TOP_K", "5"))
    assert len({method.cache_key for method in alike}) == 1


@pytest.mark.parametrize(
    ("names", "text", "message"),
    [
        (["baseline", "fitnet"], "", "--methods fitnet"),
        (["distilled", "distilled"], "", "--methods distilled"),
        (["baseline", "mine"], "KD: {PREDICTION: {DISTILLER: Hintn}}", "mine.yaml: KD.PREDICTION.DISTILLER"),
        (["baseline", "mine"], "MODEL: {META_ARCHITECTURE: WeaklySupervisedDetector}", "mine.yaml"),
        (["baseline", "mine"], "KD: {METHOD_STAGES: ['feature']}", "mine.yaml"),
    ],
)
def test_wrong_methods_are_named(names: list[str], text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        choose(tmp_path, *names, mine=text or "KD: {}")


@pytest.mark.parametrize("name", ["teacher", "knowledge-2", "a/b"])
def test_methods_do_not_have_the_names_of_other_folders(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"method {name}"):
        choose_methods(CONFIGS / "scenes", [], {name: [tmp_path / "mine.yaml"]}, train="scenes_train", options=())
