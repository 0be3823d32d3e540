"""Recall of proposals through the command line."""

import json
from pathlib import Path

import numpy as np

from mlickd.data import dataset_records, write_store
from mlickd.data.proposals.dataset_proposals import generate_proposals


def test_stores_and_methods_are_compared(call_tool, tiny_scenes: Path, tmp_path: Path) -> None:
    records = dataset_records("tiny_test")
    boxes = {record["image_id"]: np.array([a["bbox"] for a in record["annotations"]]) for record in records}
    items = [(image_id, things, np.ones(len(things))) for image_id, things in boxes.items()]
    write_store(tmp_path / "perfect", items, "truth", {}, "")
    generate_proposals(records, "edge_boxes", {"longer_side": 100}, tmp_path / "made", workers=0)
    result = call_tool(
        "evaluate_proposals",
        *("--dataset", "tiny_test@1of2", "--counts", 50, 5),
        *("--proposals", tmp_path / "perfect", tmp_path / "made"),
        *("--methods", "edge_boxes:longer_side=100", "sliding", "selective_search:mode=single,longer_side=100"),
        *("--json", tmp_path / "new" / "r.json"),
    )
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0].startswith("tiny_test@1of2: ") and lines[0].endswith("objects in 6 images")
    names = ["perfect", "made", "edge_boxes (longer_side=100)", "sliding"]
    names.append("selective_search (mode=single,longer_side=100)")
    assert [line.split("|")[1].strip() for line in lines[4:]] == names
    assert "best 5 / 50" in lines[2]
    content = json.loads((tmp_path / "new" / "r.json").read_text())
    results = content["results"]
    assert content["dataset"] == "tiny_test@1of2" and list(results) == names
    assert results["perfect"]["proposals"]["50"] == {"recall@0.5": 1, "recall@0.7": 1, "AR": 1}
    assert results["perfect"]["cpu_seconds_per_image"] is None and results["sliding"]["cpu_seconds_per_image"] > 0
    # New proposals equal the proposals in the store.
    assert results["made"]["proposals"] == results["edge_boxes (longer_side=100)"]["proposals"]
    assert results["made"]["proposals"]["50"]["recall@0.5"] > 0.1
    assert results["sliding"]["mean_proposals"] == 50
