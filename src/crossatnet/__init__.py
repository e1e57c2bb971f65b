"""Draw a thing, find its pictures: zero-shot sketch-based image retrieval with CrossATNet."""

from typing import TYPE_CHECKING, Any, Literal

__version__ = "0.1.0"

Runtime = Literal["auto", "torch", "torch-bf16", "torch-compile", "onnx", "onnx-int8"]  # see `runtime.load`

if TYPE_CHECKING:
    from crossatnet.evaluation.ranking import evaluate
    from crossatnet.gallery import Gallery
    from crossatnet.runtime.load import Pretrained as CrossATNet

__all__ = ["CrossATNet", "Gallery", "Runtime", "__version__", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import crossatnet` and `--help` do not load torch."""
    if name == "CrossATNet":
        from crossatnet.runtime.load import Pretrained

        return Pretrained
    if name == "Gallery":
        from crossatnet.gallery import Gallery

        return Gallery
    if name == "evaluate":
        from crossatnet.evaluation.ranking import evaluate

        return evaluate
    raise AttributeError(f"module 'crossatnet' has no attribute '{name}'")
