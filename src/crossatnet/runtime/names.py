"""What may compute a model; `runtime.load` says what each does. Nothing heavy is imported here."""

from typing import Literal

Runtime = Literal["auto", "torch", "torch-bf16", "torch-compile", "onnx", "onnx-int8"]
