"""Which file of an ONNX form embeds photos fastest on this machine: measured once, then remembered."""

import contextlib
import hashlib
import json
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.config import cache_directory
from crossatnet.model.interface import side_of
from crossatnet.runtime.onnx_files import PhotoPart
from crossatnet.system.documents import parse_json
from crossatnet.system.files import write_whole
from crossatnet.system.threads import computing_threads

if TYPE_CHECKING:
    from crossatnet.runtime.onnx_model import OnnxModel

CHOICES = "runtimes.json"  # in the cache folder
PROBES = 6  # photos that are embedded to measure a runtime
MIN_COSINE = 0.99  # of embeddings in 8 bits with those in floating point, for `auto` to take them
WORTH = 1.2  # 8 bits must be so many times as fast, else floating point is kept


def faster_photo_part(model: "OnnxModel") -> PhotoPart:
    """The file of an ONNX form that embeds photos fastest here: measured once, then remembered for this machine.

    8 bits are chosen only if they agreed with floating point on export, agree with it on this processor (sums can
    overflow on one without the right instructions), and are enough faster.
    """
    calibrated = model.form.int8
    if calibrated is None or calibrated.cosine < MIN_COSINE:
        return "photo"
    key = machine_key(model)
    remembered = recall(key)
    if remembered is None:
        remembered = measured(model)
        remember(key, remembered)
    fast = remembered["int8_per_s"] >= WORTH * remembered["float_per_s"]
    return "photo-int8" if fast and remembered["cosine"] >= calibrated.probe_cosine - (1 - MIN_COSINE) else "photo"


def measured(model: "OnnxModel") -> dict[str, float]:
    """Photos a second in floating point and in 8 bits, and how well both agree here; takes less than a second."""
    photos = probes(PROBES, side_of(model.config, "photo"))
    rows, rates = [], []
    for part in ("photo", "photo-int8"):
        model.embed_photos(photos[:1], part)  # loads the file
        best = 0.0
        for _ in range(2):
            started = time.perf_counter()
            embeddings = model.embed_photos(photos, part)
            best = max(best, PROBES / (time.perf_counter() - started))
        rows.append(embeddings)
        rates.append(best)
    return {"float_per_s": rates[0], "int8_per_s": rates[1], "cosine": float((rows[0] * rows[1]).sum(1).mean())}


def machine_key(model: "OnnxModel") -> str:
    """All that a measurement depends on: processor, threads, version of the runtime, and the files measured."""
    import onnxruntime

    files = [model.form.files[part].sha256 for part in ("photo", "photo-int8")]
    facts = [processor(), computing_threads(), onnxruntime.__version__, model.fingerprint, *files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def processor() -> str:
    """The processor's name, or its architecture if the system does not give the name."""
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = [line.partition(":")[2].strip() for line in names if line.startswith(("model name", "flags", "Features"))]
    return " ".join(named[:2]) or f"{platform.machine()} {platform.processor()}"


def recall(key: str) -> dict[str, Any] | None:
    """An earlier measurement on this machine, if it can be read."""
    return _choices().get(key)


def remember(key: str, result: dict[str, float]) -> None:
    """Keep a measurement in the cache folder. If that cannot be written, the next process measures again."""
    path = cache_directory() / CHOICES
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps({**_choices(), key: result}, indent=1) + "\n")


def _choices() -> dict[str, dict[str, Any]]:
    try:
        raw = parse_json((cache_directory() / CHOICES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    entries = raw.items() if isinstance(raw, dict) else ()
    return {key: value for key, value in entries if isinstance(value, dict) and _is_measurement(value)}


def _is_measurement(value: dict[str, Any]) -> bool:
    return all(isinstance(value.get(name), float | int) for name in ("float_per_s", "int8_per_s", "cosine"))


def probes(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Generated pictures (count, S, S, 3) to compare runtimes by: soft coloured shapes, the same everywhere."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse])
