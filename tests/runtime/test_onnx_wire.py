"""The declarations of an ONNX file, read from its bytes: against the library onnx, and from bytes of other files."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from crossatnet.runtime.onnx_wire import WireError, declared


def model(*nodes: onnx.NodeProto, initialisers: tuple[TensorProto, ...] = (), opset: int = 20) -> onnx.ModelProto:
    output = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(list(nodes), "graph", [], [output], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="offset", value="12")
    tensor.external_data.add(key="location", value=location)
    return tensor


def test_it_reads_what_the_library_reads(tiny_export: Path) -> None:
    for path in tiny_export.glob("*.onnx"):
        expected = onnx.load(path, load_external_data=False)
        found = declared(path.read_bytes())
        assert found.opsets == {entry.domain: entry.version for entry in expected.opset_import}
        assert found.domains <= {node.domain for node in expected.graph.node} == {""}
        assert found.metadata == {entry.key: entry.value for entry in expected.metadata_props}
        assert found.locations == {"model.safetensors"}


def test_foreign_operators_and_files_are_seen() -> None:
    custom = helper.make_node("Anything", [], ["out"], domain="com.example")
    constant = helper.make_node("Constant", [], ["out"], value=outside("../secret"))
    made = model(custom, constant, initialisers=(outside("weights.bin"),), opset=19)
    made.opset_import.append(helper.make_opsetid("com.example", 3))
    helper.set_model_props(made, {"name": "drawn", "leer": ""})
    found = declared(made.SerializeToString())
    assert found.opsets == {"": 19, "com.example": 3}
    assert "com.example" in found.domains
    assert found.locations == {"../secret", "weights.bin"}
    assert found.metadata == {"name": "drawn", "leer": ""}


def test_subgraphs_functions_and_sparse_tensors_are_refused() -> None:
    inner = model(helper.make_node("Constant", [], ["out"], value_float=1.0)).graph
    branch = helper.make_node("If", ["yes"], ["out"], then_branch=inner, else_branch=inner)
    with pytest.raises(WireError, match="subgraphs"):
        declared(model(branch).SerializeToString())
    function = model()
    function.functions.append(helper.make_function("own", "F", [], ["out"], [], [helper.make_opsetid("", 20)]))
    with pytest.raises(WireError, match="functions"):
        declared(function.SerializeToString())
    sparse = model()
    sparse.graph.sparse_initializer.add(dims=[1])
    with pytest.raises(WireError, match="sparse"):
        declared(sparse.SerializeToString())


def test_cut_short_or_scrambled_bytes_never_raise_anything_else(tiny_export: Path) -> None:
    content = (tiny_export / "guided.onnx").read_bytes()
    whole = declared(content)
    for length in range(1, len(content), 977):
        try:
            assert declared(content[:length]).metadata != whole.metadata
        except WireError:
            continue
    for place in range(0, 3000, 7):
        scrambled = bytearray(content)
        scrambled[place] ^= 0xFF
        try:
            declared(bytes(scrambled))
        except WireError:
            continue
    with pytest.raises(WireError):
        declared(b"\xff" * 40)
    with pytest.raises(WireError):
        declared(b"this is no such file")
