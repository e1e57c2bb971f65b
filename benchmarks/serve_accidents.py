"""What is done to a server while load runs: its memory is watched, or one of its workers killed."""

import os
import signal
import time
from typing import Any

import numpy as np

from serve_process import Server

SAMPLE_S = 10.0
WARM_UP_SHARE = 0.3  # of a soak: caches fill and allocators settle
REPLACED_S = 60.0


def soaked(server: Server, seconds: float) -> dict[str, Any]:
    """Memory of the server every `SAMPLE_S`, and how it grows after the warm-up, in MiB a minute by least squares."""
    began, samples = time.monotonic(), []
    while (now := time.monotonic() - began) < seconds:
        samples.append({"second": round(now), **server.memory()})
        print(
            f"  {now:4.0f} s: {samples[-1]['anonymous']:.1f} MiB own, {samples[-1]['pss']:.1f} with files", flush=True
        )
        time.sleep(min(SAMPLE_S, max(0.0, seconds - now)))
    later = [sample for sample in samples if sample["second"] >= WARM_UP_SHARE * seconds]
    minutes = [sample["second"] / 60 for sample in later]
    slopes = {
        kind: float(np.polyfit(minutes, [sample[kind] for sample in later], 1)[0]) for kind in ("anonymous", "pss")
    }
    print(f"after the warm-up {slopes['anonymous']:+.2f} MiB/min own, {slopes['pss']:+.2f} with files")
    return {"slope_mib_min": slopes, "first": later[0], "last": later[-1], "samples": samples}


def killed(server: Server) -> dict[str, Any]:
    """Kill -9 the worker that holds more connections; how many it held, and after how long a new one answered."""
    old = server.workers()
    held = {pid: server.connections(pid) for pid in old}
    victim = max(old, key=lambda pid: held[pid])
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    while time.monotonic() - began < REPLACED_S:
        if server.answering(5) - set(old):
            return {"connections": held[victim], "replaced_s": time.monotonic() - began}
        time.sleep(0.05)
    raise SystemExit(f"no new worker answered within {REPLACED_S:g} s of the kill")
