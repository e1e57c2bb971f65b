"""The names of the runtimes; `runtime.load` explains each. Nothing heavy is imported here."""

from typing import Literal

Runtime = Literal["auto", "torch", "torch-bf16", "torch-compile", "onnx", "onnx-int8"]
