"""Manifests of datasets through the command line."""

from pathlib import Path


def test_a_manifest_is_written_and_checked(tiny_scenes: Path, call_tool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = call_tool("dataset_manifest", "tiny_test")
    assert written.status == 0 and "tiny_test.manifest: 12 images, sha256 " in written.out
    checked = call_tool("dataset_manifest", "tiny_test", "--check", "tiny_test.manifest")
    assert checked.status == 0 and "12 images" in checked.out
    other = call_tool("dataset_manifest", "tiny_train", "--check", "tiny_test.manifest")
    assert other.status == 1 and other.out.count("\n") == 1
    assert "test_00000.jpg" in other.out and "24 images" in other.out
    call_tool("dataset_manifest", "nothing_test", "--output", "m").assert_ends_in_one_line("'nothing_test'")
    assert not Path("m").exists()
