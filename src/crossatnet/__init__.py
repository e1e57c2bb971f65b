"""Draw a thing, find its pictures: zero-shot sketch-based image retrieval with CrossATNet."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from crossatnet.system.version import __version__

if TYPE_CHECKING:
    from crossatnet.evaluation.ranking import evaluate
    from crossatnet.gallery.gallery import Gallery
    from crossatnet.runtime.load import Pretrained as CrossATNet

__all__ = ["CrossATNet", "Gallery", "__version__", "evaluate"]

_PUBLIC = {
    "CrossATNet": ("crossatnet.runtime.load", "Pretrained"),
    "Gallery": ("crossatnet.gallery.gallery", "Gallery"),
    "evaluate": ("crossatnet.evaluation.ranking", "evaluate"),
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import crossatnet` and `--help` load neither torch nor NumPy."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'crossatnet' has no attribute '{name}'")
    module, attribute = _PUBLIC[name]
    return getattr(import_module(module), attribute)
