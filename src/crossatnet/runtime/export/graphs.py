"""Parts of a network as ONNX graphs that take their weights from the checkpoint's own file.

Shapes: `B` batch, `S` side of the input, `P` that of a part, `C h w` the backbone's map, `i j` its finer map's, `D` the
shared space, `M` heads, `R` bits.
"""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import OPINION
from crossatnet.model.checkpoint import WEIGHTS
from crossatnet.model.interface import side_of
from crossatnet.model.network import CrossATNet
from crossatnet.runtime.onnx_files import OPSET, OnnxPart, halves, stored_tensors
from crossatnet.system.errors import UserError

OUT = ".out"  # after an output's name, while the graph is made


class Photo(nn.Module):
    """Photos (B, S, S, 3) -> embeddings (B, D), codes (B, R / 8), maps (B, C, h, w), proposals (B, 5, i, j) if any."""

    def __init__(self, network: CrossATNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        finer, feature_map = self.network.encoder("photo").both(pixels.permute(0, 3, 1, 2))  # (B, C, h, w)
        embedding = self.network.embed_map(feature_map, "photo")  # (B, D)
        given = embedding, packed_code(self.network, embedding), feature_map
        return (*given, self.network.proposals(finer, feature_map)) if self.network.regions else given


class Sketch(nn.Module):
    """Sketches (B, S, S, 3) -> embeddings (B, D), packed codes (B, R / 8) and what guides, (B, C) or (B, C + E).

    It is the pooled feature and, of a network that has one, the opinion.
    """

    def __init__(self, network: CrossATNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pictures = pixels.permute(0, 3, 1, 2)  # (B, 3, S, S)
        if self.network.config.mirror_sketches:
            pictures = torch.cat([pictures, pictures.flip(3)])  # (2 B, 3, S, S)
        feature_map = self.network.encoder("sketch")(pictures)  # (2 B or B, C, h, w)
        feature = self.network.pool(feature_map, "sketch").feature  # (2 B or B, C)
        embedding = self.network.embed_pooled(feature, "sketch")  # (2 B or B, D or D - E)
        if self.network.opinion is not None:
            opinion = self.network.opinion(feature_map, "sketch")  # (2 B or B, E)
            embedding = self.network.with_opinion(embedding, opinion)  # (2 B or B, D)
            feature = torch.cat([feature, opinion], dim=1)  # (2 B or B, C + E)
        if self.network.config.mirror_sketches:
            feature = feature.unflatten(0, (2, -1))[0]  # (B, C or C + E)
            embedding = functional.normalize(embedding.unflatten(0, (2, -1)).sum(0), dim=1)  # (B, D)
        return embedding, packed_code(self.network, embedding), feature


class GuidedPhoto(nn.Module):
    """What guides of a sketch (1, C or C + E), and maps (B, C, h, w) -> similarities (B,), attention (B, M, h, w)."""

    def __init__(self, network: CrossATNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, feature: Tensor, photo_map: Tensor) -> tuple[Tensor, Tensor]:
        channels = self.network.backbone.channels
        feature, opinion = feature[:, :channels], feature[:, channels:]  # (1, C), (1, E)
        pooled = self.network.pool(photo_map, "photo", feature)
        sketch = self.network.embed_pooled(feature, "sketch")  # (1, D or D - E)
        if self.network.opinion is not None:
            sketch = self.network.with_opinion(sketch, opinion)  # (1, D)
        similarity = self.network.embed_seen(pooled.feature, photo_map, "photo") @ sketch[0]  # (B,)
        return similarity, pooled.attention


class Regions(nn.Module):
    """Parts of photos (B, P, P, 3) -> embeddings (B, D)."""

    def __init__(self, network: CrossATNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels.permute(0, 3, 1, 2), "photo")  # type: ignore[no-any-return]


def packed_code(network: CrossATNet, embedding: Tensor) -> Tensor:
    """Embeddings (B, D) -> packed codes (B, R / 8), `uint8`, the first bit highest, as `PictureModel.hash` packs."""
    bits = network.hashing(embedding, network.code_bits).unflatten(1, (-1, 8))  # (B, R / 8, 8)
    weight = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.int32)
    packed: Tensor = (bits.int() * weight).sum(2).to(torch.uint8)
    return packed


class Interface(NamedTuple):
    """A part as a module, with an example of its input and the names of what goes in and comes out."""

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: dict[str, bool]  # name -> whether the first axis is the batch
    outputs: tuple[str, ...]


def interface(network: CrossATNet, part: OnnxPart) -> Interface:
    """The module of a part, with its description."""
    side = side_of(network.config, "sketch" if part == "sketch" else "photo")
    if part == "regions":
        assert network.config.region_size is not None, "asked only where there are regions"
        side = network.config.region_size
    pixels = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    if part == "regions":
        return Interface(Regions(network), (pixels,), {"pixels": True}, ("embedding",))
    if part == "guided":
        photo_map = torch.randn(network.map(pixels.numpy(), "photo").shape)
        guiding = network.backbone.channels + (OPINION if network.opinion else 0)
        example = (torch.randn(1, guiding), photo_map)
        inputs = {"feature": False, "map": True}
        return Interface(GuidedPhoto(network), example, inputs, ("similarity", "attention"))
    if part == "sketch":
        return Interface(Sketch(network), (pixels,), {"pixels": True}, ("embedding", "code", "feature"))
    outputs = ("embedding", "code", "map", *["proposals"] * network.regions)
    return Interface(Photo(network), (pixels,), {"pixels": True}, outputs)


def traced(network: CrossATNet, part: OnnxPart) -> onnx.ModelProto:
    """A part of a network in evaluation mode as a graph of standard operators, weights inside.

    Raises `UserError` where the exporter cannot express the network.
    """
    described = interface(network, part)
    axes = tuple({0: torch.export.Dim("pictures")} if batch else None for batch in described.inputs.values())
    try:
        with quiet():
            program = torch.onnx.export(
                described.module.eval(),
                described.example,
                dynamo=True,
                optimize=False,  # keeps the weights equal to those in the checkpoint's file
                opset_version=OPSET,
                dynamic_shapes=axes,
                input_names=[*described.inputs],
                output_names=[f"{name}{OUT}" for name in described.outputs],
            )
    except Exception as error:  # the exporter may not know some part of a backbone
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{network.name}: its {part} part cannot be written as ONNX ({reason})") from error
    if program is None:
        raise UserError(f"{network.name}: its {part} part cannot be written as ONNX")
    return tidied(named(program.model_proto, described.outputs))


def named(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """The graph with its outputs under their names; a value inside that a backbone has named so gets another name."""
    names = {name: f"{name}.inside" for name in outputs} | {f"{name}{OUT}": name for name in outputs}
    graph = model.graph
    for value in (*graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the exporter's notes, with plain constants, and with padding inside convolutions.

    ONNX Runtime merges a convolution with the ReLU6 after it only if the bounds are constants, not casts of constants.
    """
    graph, nodes = model.graph, []
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    types |= {initialiser.name: initialiser.data_type for initialiser in graph.initializer}
    constants = {node.output[0]: node for node in graph.node if node.op_type == "Constant"}
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in graph.node:
        if node.op_type == "CastLike" and node.input[0] in constants and types.get(node.input[1]):
            node = helper.make_node("Cast", [node.input[0]], [*node.output], to=types[node.input[1]])
        if node.op_type == "Conv" and node.input[0] in pads:
            node = with_padding(node, pads[node.input[0]], constants)
        node.doc_string, node.name = "", ""
        del node.metadata_props[:]
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    kept = [node for node in nodes if node.op_type != "Pad" or node.output[0] in used]
    del graph.node[:], graph.value_info[:], model.metadata_props[:]
    graph.node.extend(kept)
    return model


def with_padding(convolution: onnx.NodeProto, pad: onnx.NodeProto, constants: dict[str, Any]) -> onnx.NodeProto:
    """The convolution, padding its input itself instead of by the node `pad` before it."""
    amounts = numpy_helper.to_array(constants[pad.input[1]].attribute[0].t).tolist()  # before, then after, of 4 axes
    assert not any(amounts[:2] + amounts[4:6])
    joined = onnx.NodeProto()
    joined.CopyFrom(convolution)
    joined.input[0] = pad.input[0]
    kept = [attribute for attribute in joined.attribute if attribute.name not in ("pads", "auto_pad")]
    del joined.attribute[:]
    joined.attribute.extend([*kept, helper.make_attribute("pads", amounts[2:4] + amounts[6:8])])
    return joined


def linked(model: onnx.ModelProto, weights: bytes) -> onnx.ModelProto:
    """The graph with its weights taken from the checkpoint's file: float16 there, float32 once the graph is loaded.

    Tensors are found by their values, as exporters and backbones choose their names freely. A tensor that the file
    lacks stays in the graph.
    """
    graph = model.graph
    places = {
        (stored.shape, halves(weights, stored).tobytes()): stored
        for stored in stored_tensors(weights).values()
        if stored.kind == "F16"
    }
    used = {name for node in graph.node for name in node.input}
    initialisers, casts = [], []
    for initialiser in graph.initializer:
        if initialiser.name not in used:
            continue
        values = numpy_helper.to_array(initialiser)
        place = places.get((values.shape, values.tobytes())) if values.dtype == np.float32 else None
        if place is None:
            initialisers.append(initialiser)
            continue
        half = TensorProto(name=f"{initialiser.name}.half", data_type=TensorProto.FLOAT16, dims=values.shape)
        half.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", place.offset), ("length", place.length)):
            half.external_data.add(key=key, value=str(value))
        initialisers.append(half)
        casts.append(helper.make_node("Cast", [half.name], [initialiser.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(initialisers)
    graph.node.extend(nodes)
    return model


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporter, which reports every step and warns of missing parts that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
