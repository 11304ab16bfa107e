"""What a process costs: time, memory, GPU, energy, bytes to and from S3.

Energy is read where the platform counts it: RAPL's files for the CPU packages (on most machines for
root alone) and NVML for the GPUs that were used. Both count whole devices, so work beside this one
is in the figure. Where there is no counter it is null, "not measured"; a guess from nominal power,
which codecarbon would make, looks like a measurement and is none.
"""

import contextlib
import datetime
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import Any

from dualvla.store import traffic

POWERCAP = Path("/sys/class/powercap")
# Seconds between two readings of RAPL: its counters begin anew after minutes of full load.
EVERY = 30.0


class Meter:
    """Measures from its making until `read`."""

    def __init__(self, powercap: Path = POWERCAP, every: float = EVERY) -> None:
        """Args: folder of RAPL's files, and seconds between two readings of them."""
        self._started, self._begin = datetime.datetime.now(datetime.UTC), time.monotonic()
        self._cpu, self._moved = _cpu_seconds(), traffic.total()
        self._packages, self._gpus = Packages(powercap), _gpu_joules()
        if self._packages.joules is not None:
            threading.Thread(target=self._watch, args=(every,), daemon=True).start()

    def read(self) -> dict[str, Any]:
        """What it cost so far.

        Returns:
            `started` (ISO 8601, UTC), `seconds` (wall clock), `cpu_seconds` (with finished
            children), `peak_rss_mib` (this process), `peak_rss_child_mib` (its largest child),
            `gpu_seconds` (GPUs used times wall clock), `gpu_peak_mib` (tensors of this process),
            `energy_joules` and `energy_of` (what it is a sum of: cpu, gpu), `s3_sent_bytes`,
            `s3_received_bytes`. What cannot be measured here is null.
        """
        seconds = time.monotonic() - self._begin
        moved = [now - before for now, before in zip(traffic.total(), self._moved, strict=True)]
        # Linux counts ru_maxrss in KiB, macOS in bytes.
        mib = 1024.0 if sys.platform != "darwin" else 1024.0**2
        own, children = (
            resource.getrusage(who).ru_maxrss / mib
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        )
        self._packages.update()
        energy = {"cpu": self._packages.joules, "gpu": self._gpu_energy()}
        known = {name: joules for name, joules in energy.items() if joules is not None}
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(seconds, 2),
            "cpu_seconds": round(_cpu_seconds() - self._cpu, 2),
            "peak_rss_mib": round(own, 1),
            "peak_rss_child_mib": round(children, 1),
            "gpu_seconds": round(seconds * _world_size(), 2) if _cuda() else 0.0,
            "gpu_peak_mib": _gpu_peak_mib(),
            "energy_joules": round(sum(known.values()), 1) if known else None,
            "energy_of": sorted(known),
            "s3_sent_bytes": moved[0],
            "s3_received_bytes": moved[1],
        }

    def _watch(self, every: float) -> None:
        while True:
            time.sleep(every)
            self._packages.update()

    def _gpu_energy(self) -> float | None:
        """Joules of the GPUs that this machine's processes of the stage used."""
        used, now = _gpus_used(), _gpu_joules()
        if not used or not all(name in now and name in self._gpus for name in used):
            return None
        return sum(now[name] - self._gpus[name] for name in used)


class Packages:
    """The CPU packages whose energy RAPL counts."""

    def __init__(self, powercap: Path) -> None:
        """Find the counters; `joules` stays None if one of them may not be read."""
        self._lock = threading.Lock()
        self.joules: float | None = None
        self._last: dict[Path, int] = {}
        with contextlib.suppress(OSError, ValueError):
            folders = [path for path in powercap.glob("intel-rapl:?") if _is_package(path)]
            self._last = {path: _number(path / "energy_uj") for path in sorted(folders)}
            self._range = {path: _number(path / "max_energy_range_uj") for path in self._last}
            self.joules = 0.0 if self._last else None

    def update(self) -> None:
        """Add what was used since the last reading; a counter may have begun anew once."""
        with self._lock:
            if self.joules is None:
                return
            for path, before in self._last.items():
                now = _number(path / "energy_uj")
                used = now - before if now >= before else now + self._range[path] - before
                self.joules += used / 1e6
                self._last[path] = now


def _is_package(folder: Path) -> bool:
    return (folder / "name").read_text(encoding="utf-8").startswith("package")


def _number(path: Path) -> int:
    return int(path.read_text(encoding="utf-8"))


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _world_size() -> int:
    """Processes that share the work, one GPU each."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _cuda() -> Any:
    """torch.cuda if this process has used it; torch is not imported for the question."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def _gpus_used() -> list[str]:
    """NVML's names of the GPUs that the processes on this machine used: the first ones."""
    if (cuda := _cuda()) is None:
        return []
    count = min(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), cuda.device_count())
    return [f"GPU-{cuda.get_device_properties(index).uuid}" for index in range(count)]


def _gpu_peak_mib() -> float | None:
    cuda = _cuda()
    return None if cuda is None else round(cuda.max_memory_allocated() / 2**20, 1)


def _gpu_joules() -> dict[str, float]:
    """Joules of each GPU since its driver was loaded, by UUID; empty without NVML."""
    try:
        import pynvml
    except ImportError:
        return {}
    found = {}
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            with contextlib.suppress(pynvml.NVMLError):  # older than Volta: no counter
                name = pynvml.nvmlDeviceGetUUID(handle)
                found[name] = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return found
