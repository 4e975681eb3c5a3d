"""What this machine computes with: the name of its CPU and how many cores are ours."""

import os
import platform
import re
from pathlib import Path


def cpu_model() -> str:
    """As the kernel names it, else the architecture."""
    found = re.search(r"^model name\s*:\s*(.*)$", cpu_info(), re.MULTILINE)
    return found[1] if found else platform.machine()


def cpu_info() -> str:
    """/proc/cpuinfo; empty where there is none."""
    info = Path("/proc/cpuinfo")
    return info.read_text(encoding="utf-8", errors="replace") if info.is_file() else ""


def num_cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
