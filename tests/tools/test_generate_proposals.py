"""Generation of proposals through the command line."""

import re
from pathlib import Path

from mlickd.data import ProposalStore, proposals_path


def test_proposals_have_default_paths(tiny_scenes: Path, call_tool, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "tiny").symlink_to(tiny_scenes / "tiny")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    # Parts of a dataset share the proposals of the whole dataset.
    names = ["tiny_train", "tiny_test@1of2", "tiny_test@not1of2"]
    options = ["--method", "selective_search", "--set", "mode", "single", "--set", "longer_side", 60]
    result = call_tool("generate_proposals", "--dataset", *names, "--workers", 1, "--set", "max_proposals", 5, *options)
    for line, name, count in zip(result.out.splitlines(), ("tiny_train", "tiny_test"), (24, 12), strict=True):
        path = proposals_path(name, "selective_search")
        assert re.fullmatch(rf"{re.escape(str(path))}: {count} images, [\d.]+ proposals per image, [\d.]+ s", line)
        store = ProposalStore(path)
        assert store.header["parameters"] | {"mode": "single", "longer_side": 60} == store.header["parameters"]
        assert max(len(store[image_id][1]) for image_id in store) == 5


def test_folders_are_processed_in_parts(tiny_scenes: Path, call_tool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mlickd.data.proposals.dataset_proposals.IMAGES_PER_SHARD", 2)
    images = tiny_scenes / "tiny" / "images"
    names = sorted(path.name for path in images.glob("test_*"))[:5]
    (tmp_path / "some").mkdir()
    for name in names:
        (tmp_path / "some" / name).symlink_to(images / name)
    arguments = ["generate_proposals", "--images", tmp_path / "some", "--method", "sliding"]
    output = ["--workers", 1, "--output"]
    assert "part 2 of 2" in call_tool(*arguments, *output, tmp_path / "parts", "--shard", "2/2").out
    assert "5 images" in call_tool(*arguments, *output, tmp_path / "parts").out
    call_tool(*arguments, *output, tmp_path / "whole", "--shard", "1/1")
    parts, whole = ProposalStore(tmp_path / "parts"), ProposalStore(tmp_path / "whole")
    assert list(whole) == names and parts.digest == whole.digest

    (tmp_path / "some" / "phone.heic").touch()
    result = call_tool(*arguments, "--shard", "1/1", *output, tmp_path / "readable")
    assert result.status == 1 and "1 of 6 photos" in result.err and "phone.heic" in result.err
    assert list(ProposalStore(tmp_path / "readable")) == names
