"""The declarations in an ONNX file, read from its bytes before any runtime parses them.

An ONNX file is a Protocol Buffers message (`ModelProto` of onnx.proto). Only the fields that decide whether to trust it
are read. Our files hold no subgraphs, functions, training graphs or sparse tensors, so a file with any of these is
refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

# Fields of ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, and of their entries.
GRAPH, OPSET, METADATA, TRAINING, FUNCTIONS = 7, 8, 14, 20, 25
NODES, INITIALISERS, INPUTS, OUTPUTS, SPARSE_INITIALISERS = 1, 5, 11, 12, 15
NAME, OPERATOR = 1, 4
ATTRIBUTES, DOMAIN = 5, 7
TENSOR, SUBGRAPH, TENSORS, SUBGRAPHS, SPARSE_TENSOR, SPARSE_TENSORS = 5, 6, 10, 11, 22, 23
EXTERNAL = 13
KEY, VALUE = 1, 2


class WireError(ValueError):
    """Bytes that are no ONNX file, or that hold what our files never hold."""


@dataclass
class Declared:
    """The declarations of a file: operator sets by domain, domains used, files of weights, metadata, and what it does.

    `inputs` and `outputs` are the names of what the graph takes and gives, `operators` the kinds of its nodes.
    """

    opsets: dict[str, int] = field(default_factory=dict)
    domains: set[str] = field(default_factory=set)
    locations: set[str] = field(default_factory=set)
    metadata: dict[str, str] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)


def declared(content: bytes) -> Declared:
    """Read what the bytes of an ONNX file declare. Raises `WireError`."""
    found = Declared()
    try:
        for number, value in _fields(memoryview(content)):
            if number == GRAPH:
                _graph(_message(value), found)
            elif number == OPSET:
                entry = dict(_fields(_message(value)))
                version = entry.get(VALUE, 0)
                found.opsets[_text(entry.get(KEY, b""))] = version if isinstance(version, int) else 0
            elif number == METADATA:
                entry = dict(_fields(_message(value)))
                found.metadata[_text(entry.get(KEY, b""))] = _text(entry.get(VALUE, b""))
            elif number in (TRAINING, FUNCTIONS):
                raise WireError("it holds functions or training graphs")
    except (IndexError, UnicodeDecodeError) as error:
        raise WireError("it ends too early, or is no ONNX file") from error
    return found


def _graph(graph: memoryview, found: Declared) -> None:
    for number, value in _fields(graph):
        if number == NODES:
            for part, content in _fields(_message(value)):
                if part == DOMAIN:
                    found.domains.add(_text(content))
                elif part == OPERATOR:
                    found.operators.add(_text(content))
                elif part == ATTRIBUTES:
                    _attribute(_message(content), found)
        elif number in (INPUTS, OUTPUTS):
            names = found.inputs if number == INPUTS else found.outputs
            names.update(_text(content) for part, content in _fields(_message(value)) if part == NAME)
        elif number == INITIALISERS:
            _tensor(_message(value), found)
        elif number == SPARSE_INITIALISERS:
            raise WireError("it holds sparse tensors")


def _attribute(attribute: memoryview, found: Declared) -> None:
    for number, value in _fields(attribute):
        if number in (TENSOR, TENSORS):
            _tensor(_message(value), found)
        elif number in (SUBGRAPH, SUBGRAPHS, SPARSE_TENSOR, SPARSE_TENSORS):
            raise WireError("it holds subgraphs or sparse tensors")


def _tensor(tensor: memoryview, found: Declared) -> None:
    for number, value in _fields(tensor):
        if number == EXTERNAL:
            entry = dict(_fields(_message(value)))
            if _text(entry.get(KEY, b"")) == "location":
                found.locations.add(_text(entry.get(VALUE, b"")))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of a message's fields: integers, or bytes. Raises `IndexError` if it ends too early."""
    place = 0
    while place < len(message):
        tag, place = _integer(message, place)
        kind = tag & 7
        if kind == 0:
            value, place = _integer(message, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _integer(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise WireError("it is no ONNX file")
        if place + length > len(message):
            raise IndexError
        yield tag >> 3, message[place : place + length]
        place += length


def _integer(message: memoryview, place: int) -> tuple[int, int]:
    """A variable-length integer at a place, at most 64 bits, and the place after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise WireError("it is no ONNX file")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise WireError("it is no ONNX file")
    return value


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise WireError("it is no ONNX file")
    return bytes(value).decode()
