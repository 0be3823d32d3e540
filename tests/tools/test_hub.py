"""Hugging Face model folders of students: written, loaded, uploaded to a stand-in of the Hub, and downloaded."""

import base64
import hashlib
import json
import pickle
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import timm
import torch
from detectron2.modeling import build_model
from huggingface_hub import ModelCard, constants, file_download
from PIL import Image

from helpers.untrained_run import split_tiny_scenes, write_run_thresholds, write_untrained_run
from mlickd.data import dataset_records
from mlickd.data.scenes import CATEGORY_NAMES
from mlickd.errors import InputError
from mlickd.evaluation.metrics import multilabel_metrics
from mlickd.evaluation.score_files import read_scores
from mlickd.export.hub_export import write_hub_folder
from mlickd.prediction import load_model
from mlickd.runs import run_config
from mlickd.studies.threshold_tuning import compute_scores

TIMM = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "test_efficientnet"]


def digest(content):
    return hashlib.sha1(repr(content).encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    models: dict[str, dict[str, bytes]] = {}  # files by the name of the model

    def answer(self, content, status=200, **headers):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else content)

    def do_GET(self):
        parts = self.path.partition("?")[0].removeprefix("/api/models").strip("/").split("/")
        name, kind = "/".join(parts[:2]), parts[2:3]
        if (files := self.models.get(name)) is None:
            self.answer({}, 404, X_Error_Code="RepoNotFound")
        elif kind == ["resolve"]:
            self.answer(files[parts[-1]], ETag=digest(files[parts[-1]]), X_Repo_Commit=digest(files))
        elif kind == ["tree"]:
            self.answer([{"type": "file", "path": path, "oid": path, "size": len(files[path])} for path in files])
        else:
            siblings = [{"rfilename": path} for path, content in files.items() if content]
            self.answer({"id": name, "sha": digest(files), "siblings": siblings})

    do_HEAD = do_GET

    def do_POST(self):
        body, address = self.rfile.read(int(self.headers["Content-Length"])), f"{constants.ENDPOINT}/anna/pets"
        if self.headers["Authorization"] != "Bearer hf_test":
            self.answer({"error": "Invalid username or password."}, 401)
        elif "/preupload/" in self.path:
            mode = {"uploadMode": "regular", "shouldIgnore": False}
            self.answer({"files": [{**file, **mode} for file in json.loads(body)["files"]]})
        else:
            for change in map(json.loads, body.splitlines() if "/commit/" in self.path else ()):
                if path := change["value"].get("path"):  # a deleted file becomes empty
                    self.models["anna/pets"][path] = base64.b64decode(change["value"].get("content", ""))
            commit = digest(self.models["anna/pets"])
            self.answer({"url": address, "commitUrl": f"{address}/commit/{commit}", "commitOid": commit})


@pytest.fixture(scope="module")
def runs(tiny_scenes, tmp_path_factory):
    """Write evaluated students on timm, with tuned thresholds, and on VGG, and the folder of the first for the Hub."""
    root = tmp_path_factory.mktemp("hub")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(split_tiny_scenes(tiny_scenes, root / "datasets")))
        write_untrained_run(root / "vgg")
        cfg = run_config(write_untrained_run(root / "timm", 0, "Base-Classifier", *TIMM))
        model = build_model(cfg).train()
        for _ in range(20):  # so that the scores differ between photos
            model.backbone(torch.randn(8, 3, 32, 32))
        torch.nn.init.normal_(model.head.linear.weight, std=0.5)
        torch.save({"model": model.state_dict()}, cfg.MODEL.WEIGHTS)
        write_run_thresholds(root / "timm", CATEGORY_NAMES, np.linspace(0.1, 0.9, 20).tolist())
        compute_scores(root / "timm", "tiny_test")
        write_hub_folder(root / "timm", root / "timm_hub", "anna/pets", "cc-by-4.0")
        yield root


def scores(model):
    photos = [record["file_name"] for record in dataset_records("tiny_test")]
    return np.stack([found.values for found in load_model(model).predict(photos)])


def test_scores_agree_with_the_run_and_with_timm(runs):
    folder, expected = runs / "timm_hub", scores(runs / "timm")
    assert np.ptp(expected, axis=0).max() > 0.01, "the photos have to differ"
    np.testing.assert_allclose(scores(folder), expected, atol=1e-5)
    assert load_model(folder).thresholds.tolist() == load_model(runs / "timm").thresholds.tolist()
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    # Larger photos are decoded and resized with other rounding.
    photo = Image.open(dataset_records("tiny_test")[0]["file_name"]).resize((32, 32))
    found = network(transform(photo)[None]).sigmoid()[0].detach()
    np.testing.assert_allclose(found, load_model(folder).predict(photo).values, atol=1e-4)
    saved = read_scores(runs / "timm/evaluation/inference/tiny_test/image_scores.npz")
    tuned = load_model(folder).thresholds
    metrics = json.loads((folder / "config.json").read_text())["mlickd"]["test"]["metrics"]
    assert metrics["CF1"] == pytest.approx(
        100 * multilabel_metrics(saved.scores, saved.targets, threshold=tuned)["CF1"]
    )
    card = ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name, len(card.data.eval_results)) == ("cc-by-4.0", "timm", 1)
    for text in (
        "12 test photos",
        "8 photos with labels",
        "test_efficientnet",
        "16 images",
        *(f"| {name} |" for name in CATEGORY_NAMES),
    ):
        assert text in card.text


def test_another_network_is_written_as_onnx_and_nothing_private(runs, tmp_path):
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "vgg"
    write_hub_folder(runs / "vgg", folder)
    (runs / "vgg/config.json").write_text("{}")  # of another program; the run is still a run
    assert {path.name for path in folder.iterdir()} == {"README.md", "config.json", "model.onnx"}
    np.testing.assert_allclose(scores(folder), scores(runs / "vgg"), atol=1e-4)
    for file in [*folder.iterdir(), *(runs / "timm_hub").iterdir()]:
        private = [text for text in (bytes(runs), bytes(tmp_path), b"tiny_") if text in file.read_bytes()]
        assert not private, f"{file} has a path or the name of a dataset"
    (folder / "README.md").write_text("an edited card")
    with pytest.raises(InputError, match=f"--hub {folder}"):
        write_hub_folder(runs / "vgg", folder)


def test_a_pushed_student_is_downloaded_once(runs, tmp_path, monkeypatch, call_tool):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    photo = dataset_records("tiny_test")[0]["file_name"]
    arguments = ("export_student", "--run", runs / "timm", "--hub", "pets", "--push", "anna/pets")
    Hub.models["anna/pets"] = {"config.json": b'{"mlickd": {}}', "model.onnx": b"a student", "notes.txt": b"kept"}
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        settings = {"ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_CACHE": str(tmp_path)}
        for setting, value in settings.items():
            monkeypatch.setattr(constants, setting, value)
            monkeypatch.setattr(file_download, setting, value, raising=False)  # huggingface_hub before 1.0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert call_tool(*arguments).status == 0
        (tmp_path / "pets" / "README.md").write_text("an edited card")
        arguments = ("export_student", "--hub", "pets", "--push", "anna/pets")
        assert call_tool(*arguments).status == 0
        assert Hub.models["anna/pets"]["README.md"] == b"an edited card"
        files = {name for name, content in Hub.models["anna/pets"].items() if content}
        assert files == {"README.md", "config.json", "model.safetensors", "notes.txt"}
        result = call_tool("predict", photo, "--model", "anna/pets", "--json", "-")
        found = list(json.loads(result.out)["photos"][0]["scores"].values())
        np.testing.assert_allclose(found, scores(runs / "timm")[0], atol=1e-5)
        with pytest.raises(InputError, match="^anna/none: .*hf auth login"):
            load_model("anna/none")
        Hub.models["pets/none"] = Hub.models["anna/pets"]
        result = call_tool("predict", photo, "--model", "pets/none")  # the folder `pets` exists here
        result.assert_ends_in_one_line("pets/none: is not in the folder pets")
        call_tool("predict", photo, "--model", "./anna/pets").assert_ends_in_one_line("anna")
        monkeypatch.setenv("HF_TOKEN", "hf_wrong")
        call_tool(*arguments).assert_ends_in_one_line("hf auth login")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        Hub.models["anna/pets"] = {"config.json": b"{}", "model.safetensors": b"another model"}
        call_tool(*arguments).assert_ends_in_one_line("--push anna/pets")
        assert Hub.models["anna/pets"]["model.safetensors"] == b"another model"
        Hub.models["eve/other"] = Hub.models["anna/pets"]
        call_tool("predict", photo, "--model", "eve/other").assert_ends_in_one_line("is not a student of MLICKD")
        server.shutdown()
    np.testing.assert_allclose(scores("anna/pets")[0], found, atol=1e-5)  # from the cache
    with pytest.raises(InputError, match="^anna/other: [^\n]*$"):
        load_model("anna/other")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("config.json", b'"test_efficientnet"', b'"hf-hub:eve/network"'),
        ("config.json", b'"global_pool": "avg"', b'"checkpoint_path": "network.pth"'),
        ("config.json", b"{", b"[" * 100_000),
        ("model.safetensors", None, pickle.dumps({"weight": 1})),
    ],
)
def test_a_wrong_folder_is_one_line_and_runs_nothing(runs, tmp_path, file, old, new):
    path = shutil.copytree(runs / "timm_hub", tmp_path / "pets") / file
    path.write_bytes(path.read_bytes().replace(old, new) if old else new)
    with pytest.raises(InputError, match=f"^{path.parent}[^\n]*$"):
        load_model(path.parent)
