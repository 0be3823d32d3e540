"""Write the student of a finished run as an ONNX file."""

import logging
import os
import warnings
from datetime import datetime, timezone

import torch
from detectron2.config import CfgNode
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError
from mlickd.files import check_writable, file_digest, write_atomic
from mlickd.modeling import MultiLabelClassifier
from mlickd.runs import check_has_learned, code_versions, load_run, run_class_names, run_thresholds, training_data

from .exported_classifier import ExportMetadata, import_optional


def export_student(
    run: str | os.PathLike[str], output: str | os.PathLike[str]
) -> tuple[CfgNode, MultiLabelClassifier, ExportMetadata]:
    """Write the student of a finished run as an ONNX file, which appears only when it is complete.

    Args:
        run: folder of the run, see :func:`mlickd.runs.find_run`.
        output: file to write, with the ending ``.onnx``; its folder is created.

    Returns:
        The configuration of the run, the student on the CPU, and the metadata in the file.

    Raises:
        InputError: the run is not a finished student, the file cannot be written, or a package of the extra ``export``
            is missing.
    """
    if not os.fspath(output).lower().endswith(".onnx"):
        raise InputError(f"--output {output}: give a name that ends in .onnx")
    check_writable(output)
    cfg, model, run = load_student(run)
    metadata = run_metadata(cfg, run)
    write_atomic(output, onnx_content(model, metadata, cfg.INPUT.FORMAT), "give another --output")
    return cfg, model, metadata


def load_student(run: str | os.PathLike[str]) -> tuple[CfgNode, MultiLabelClassifier, str]:
    """Return the configuration of a finished student, the student on the CPU, and its folder, or raise InputError."""
    cfg, model = load_run(run)
    run = os.path.dirname(cfg.MODEL.WEIGHTS)  # for a comparison, the run of its chosen student
    if type(model).forward is not MultiLabelClassifier.forward:  # the exported network computes this forward
        raise InputError(f"{run}: is a {type(model).__name__}; name the run of a MultiLabelClassifier")
    check_has_learned(cfg, run)
    return cfg, model.cpu(), run


def run_metadata(cfg: CfgNode, run: str | os.PathLike[str]) -> ExportMetadata:
    """Return the metadata of the student of a run; ``cfg`` is the result of :func:`mlickd.runs.run_config`.

    Raises:
        InputError: a file of the run is missing or damaged, or the tuned thresholds belong to another checkpoint.
    """
    names = run_class_names(cfg, run)
    thresholds, source = run_thresholds(cfg, run, names)
    return ExportMetadata(
        class_names=tuple(names),
        thresholds=tuple(thresholds.tolist()),
        thresholds_from=source,
        input_size=cfg.INPUT.SIZE_TEST,
        provenance={
            "data": training_data(run),
            "config": {"sha256": file_digest(os.path.join(run, "config.yaml"))},
            "checkpoint": {"sha256": file_digest(cfg.MODEL.WEIGHTS)},
            "versions": code_versions(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )


class _BatchClassifier(nn.Module):
    """A :class:`~mlickd.modeling.MultiLabelClassifier` that takes a tensor instead of a list of samples."""

    def __init__(self, model: MultiLabelClassifier, image_format: str):
        super().__init__()
        self.model = model
        self.image_format = image_format

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return (N, C) float32 probabilities of (N, S, S, 3) uint8 RGB pixels."""
        images = pixels.permute(0, 3, 1, 2)
        images = self.model.normalize(images.flip(1) if self.image_format == "BGR" else images)
        if padding := -images.shape[-1] % max(self.model.backbone.size_divisibility, 1):
            images = F.pad(images, (0, padding, 0, padding))
        return self.model.head(self.model.backbone(images)).sigmoid()


def onnx_content(model: MultiLabelClassifier, metadata: ExportMetadata, image_format: str) -> bytes:
    """Return the content of an ONNX file that takes batches of any size. The model must be on the CPU.

    The file takes RGB; ``image_format`` is the channel order of the model, ``RGB`` or ``BGR``.

    Raises:
        InputError: a package of the extra ``export`` is missing, or the student cannot be exported.
    """
    onnx, _ = (import_optional(package, "export to ONNX") for package in ("onnx", "onnxscript"))
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    # Two images, because torch.export treats a batch size of 1 as a constant.
    example = torch.zeros(2, metadata.input_size, metadata.input_size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=65535)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its future versions
        try:
            classifier = _BatchClassifier(model, image_format).eval()
            program = torch.export.export(classifier, (example,), dynamic_shapes=({0: batch},))
            pooling = torch.ops.aten.adaptive_max_pool2d.default
            if any(node.target == pooling for node in program.graph.nodes):  # VGG's fc6; ONNX lacks this operator
                program = program.run_decompositions({pooling: _adaptive_max_pool2d})
            names = {"input_names": ["pixels"], "output_names": ["scores"]}
            # 18 is the lowest opset that this exporter writes without a conversion. ONNX Runtime 1.15 (2023) reads it.
            exported = torch.onnx.export(program, dynamo=True, **names, opset_version=18, verbose=False)
        except Exception as error:
            reason = str(error.__cause__ or error).strip().split("\n")[0]
            raise InputError(
                f"the backbone {type(model.backbone).__name__} cannot be exported to ONNX ({reason}); train a student "
                "with another backbone"
            ) from error
    proto = exported.model_proto
    # The exporter always writes its newest version. Version 8 of the format (opset 18) runs since ONNX Runtime 1.15.
    proto.ir_version = onnx.helper.find_min_ir_version_for(proto.opset_import)
    proto.doc_string = "Multi-label classifier; see the metadata for classes, thresholds and the resizing of photos."
    # The exporter stores the origin of each node, with paths of this machine.
    for item in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del item.metadata_props[:]
    del proto.metadata_props[:]
    for name, value in metadata.properties().items():
        proto.metadata_props.add(key=name, value=value)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto.SerializeToString(deterministic=True)


def _adaptive_max_pool2d(maps: torch.Tensor, output_size: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute PyTorch's operator for (N, C, H, W) maps, bin by bin. The indices are 0, because nothing uses them."""
    for dim, bins in zip((2, 3), output_size, strict=True):
        length = maps.shape[dim]
        ends = [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]
        maps = torch.cat([maps.narrow(dim, low, high - low).amax(dim, keepdim=True) for low, high in ends], dim)
    return maps, torch.zeros_like(maps, dtype=torch.int64)
