"""The student as one function of a batch, and that function as a file's content."""

from __future__ import annotations

import io
import json
import logging
import warnings

import torch
from torch import nn
from torch.nn import functional as F

from mlickd.errors import InputError
from mlickd.modeling import MultiLabelClassifier

from .metadata import ExportMetadata
from .optional import import_optional
from .pt2_archive import KNOWN_PYTORCH, METADATA_FILE, check_pt2

__all__ = ["OPSET", "ScoresOfBatch", "onnx_content", "pt2_content", "trace"]

# The lowest that PyTorch's exporter writes without translating down, so that the oldest runtimes can read it: ONNX
# Runtime from 1.14 (2023). No later opset has an operator that the students would use.
OPSET = 18


class ScoresOfBatch(nn.Module):
    """What :class:`~mlickd.modeling.MultiLabelClassifier` computes at inference, of a tensor in place of samples."""

    def __init__(self, model: MultiLabelClassifier, channel_order: str, preprocessing: bool = True):
        """
        Args:
            model: the student.
            channel_order: of its input, ``RGB`` or ``BGR``.
            preprocessing: whether pixels come in, or what is normalized already.
        """
        super().__init__()
        self.model = model
        self.channel_order = channel_order
        self.preprocessing = preprocessing

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """
        Args:
            images: as :class:`ExportMetadata` says of ``preprocessing``.

        Returns:
            (N, C) float32 probabilities.
        """
        if self.preprocessing:
            images = images.permute(0, 3, 1, 2)
            if self.channel_order == "BGR":
                images = images.flip(1)
            images = self.model.normalize(images)
        divisor = max(self.model.backbone.size_divisibility, 1)
        height, width = images.shape[-2:]
        if height % divisor or width % divisor:
            images = F.pad(images, (0, -width % divisor, 0, -height % divisor))
        return self.model.head(self.model.backbone(images)).sigmoid()


def trace(model: MultiLabelClassifier, metadata: ExportMetadata) -> torch.export.ExportedProgram:
    """The student as a graph of tensor operations that takes batches of any size.

    Args:
        model: on the CPU, in evaluation mode.
        metadata: of the file that it is for.

    Raises:
        InputError: its backbone cannot be traced.
    """
    function = ScoresOfBatch(model, metadata.channel_order, metadata.preprocessing).eval()
    dtype = torch.uint8 if metadata.preprocessing else torch.float32
    # Of two images, because one would be taken for a constant.
    example = (torch.zeros(metadata.input_shape(2), dtype=dtype),)
    batch = torch.export.Dim("batch", min=1, max=65535)
    try:
        with torch.no_grad():
            program = torch.export.export(function, example, dynamic_shapes=({0: batch},))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"the backbone {type(model.backbone).__name__} cannot be exported ({reason}); train a student with another"
        ) from error
    for node in program.graph.nodes:  # where the source lies on this machine is nobody's business
        node.meta.pop("stack_trace", None)
    return program


def onnx_content(program: torch.export.ExportedProgram, metadata: ExportMetadata) -> bytes:
    """An ONNX file of a traced student, with metadata.

    Raises:
        InputError: a package of the extra ``export`` is missing, or the student has an operator that ONNX lacks.
    """
    import_optional("onnx", "export to ONNX")
    import_optional("onnxscript", "export to ONNX")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    pooling = torch.ops.aten.adaptive_max_pool2d.default
    if any(node.target == pooling for node in program.graph.nodes):  # of VGG's fc6, and unknown to the exporter
        program = program.run_decompositions({pooling: _adaptive_max_pool2d})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own future
        try:
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[metadata.input_name],
                output_names=["scores"],
                opset_version=OPSET,
                verbose=False,
            )
        except RuntimeError as error:  # the base of the exporter's own
            cause = str(error.__cause__ or error).strip().split("\n")[0]
            raise InputError(f"the student cannot be written as ONNX ({cause}); export it as .pt2") from error
    proto = exported.model_proto
    proto.doc_string = "Multi-label classifier; see the metadata for classes, thresholds and how photos are resized."
    for item in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del item.metadata_props[:]  # how the exporter came to it
    del proto.metadata_props[:]
    for name, value in metadata.properties().items():
        proto.metadata_props.add(key=name, value=value)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return proto.SerializeToString(deterministic=True)


def _adaptive_max_pool2d(maps: torch.Tensor, output_size: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What PyTorch's operator computes of (N, C, H, W) maps, a bin at a time; its indices are not computed."""
    for dim, bins in zip((2, 3), output_size, strict=True):
        length = maps.shape[dim]
        ends = [(i * length // bins, -(-(i + 1) * length // bins)) for i in range(bins)]
        maps = torch.cat([maps.narrow(dim, low, high - low).amax(dim, keepdim=True) for low, high in ends], dim)
    return maps, torch.zeros_like(maps, dtype=torch.int64)


def pt2_content(program: torch.export.ExportedProgram, metadata: ExportMetadata) -> bytes:
    """A ``.pt2`` file of a traced student, with metadata.

    It is that of ``torch.export``, because PyTorch has deprecated TorchScript.

    Raises:
        InputError: this PyTorch writes other files than `load_exported` opens.
    """
    program.example_inputs = None
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of weights that share memory
        torch.export.save(program, file, extra_files={METADATA_FILE: json.dumps(metadata.properties())})
    try:
        check_pt2(file.getvalue(), "the file")
    except InputError as error:
        raise InputError(
            f"PyTorch {torch.__version__} writes .pt2 files that cannot be opened again; export to .onnx, or install "
            f"PyTorch {KNOWN_PYTORCH}, the least version known to work"
        ) from error
    return file.getvalue()
