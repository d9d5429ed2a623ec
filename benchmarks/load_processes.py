"""CPU time and memory of running processes, sampled from /proc."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_SAMPLE_S = 0.25


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far, user and system; of one that has ended 0."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_mb(pid: int) -> float:
    """Largest resident size of a process so far, in MB (10^6 bytes)."""
    return _status_mb(pid, "VmHWM")


def resident_mb(pid: int) -> float:
    """Resident size of a process now, in MB (10^6 bytes)."""
    return _status_mb(pid, "VmRSS")


def _status_mb(pid: int, key: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ValueError(f"/proc/{pid}/status has no {key}")


@dataclass
class Sampler:
    """Follows the CPU time of some processes.

    Attributes:
        server: pid of the aggregator.
        drivers: pids of the driver processes.
        samples: (Unix time, server's CPU seconds, drivers' CPU seconds, server's resident MB).
    """

    server: int
    drivers: list[int]
    samples: list[tuple[float, float, float, float]] = field(default_factory=list)

    async def run(self) -> None:
        """Samples until it is cancelled."""
        ended = dict.fromkeys(self.drivers, 0.0)
        while True:
            for pid in self.drivers:  # what an ended process has used stays counted
                ended[pid] = max(ended[pid], cpu_seconds(pid))
            self.samples.append(
                (
                    time.time(),
                    cpu_seconds(self.server),
                    sum(ended.values()),
                    resident_mb(self.server),
                )
            )
            await asyncio.sleep(_SAMPLE_S)

    def used(self, start: float, end: float) -> tuple[float, float]:
        """CPU seconds of server and drivers between two Unix times, to a sample's precision."""
        within = [s for s in self.samples if start - _SAMPLE_S <= s[0] <= end + _SAMPLE_S]
        if len(within) < 2:
            return 0.0, 0.0
        return within[-1][1] - within[0][1], within[-1][2] - within[0][2]

    def peak_between(self, start: float, end: float) -> float:
        """Largest sampled resident size of the server between two Unix times, in MB."""
        within = [s[3] for s in self.samples if start - _SAMPLE_S <= s[0] <= end + _SAMPLE_S]
        return max(within, default=0.0)
