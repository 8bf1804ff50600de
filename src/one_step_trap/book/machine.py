"""The processor of a machine, and which of its instruction sets the libraries use: last bits depend on both."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import config
from numpy._core import _multiarray_umath as loops  # type: ignore[attr-defined]

CORENAMES = (
    "scipy_openblas_get_corename64_",
    "openblas_get_corename",
)  # as NumPy's wheels, as others name it


def machine() -> dict[str, Any]:
    """Return the processor, its architecture and cores, and what :func:`instruction_sets` says."""
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "instruction_sets": instruction_sets(),
    }


def in_words() -> str:
    """Return the same as one line, with whether this process has used a GPU."""
    here = machine()
    sets = ", ".join(f"{library} {used}" for library, used in here["instruction_sets"].items())
    used_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return f"{here['processor']} ({here['architecture']}), {here['cores']} cores; {sets}; {'a' if used_gpu else 'no'} GPU used"


def processor() -> str:
    """Return the name of the processor as the system has it, or else that of its architecture."""
    info = Path("/proc/cpuinfo")
    name = named_in(info.read_text(encoding="utf-8", errors="replace")) if info.exists() else ""
    if sys.platform == "darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    return name or platform.machine()


def named_in(cpuinfo: str) -> str:
    """Return the name in the text of ``/proc/cpuinfo``; Arm's has none."""
    found = re.search(r"^model name[ \t]*:[ \t]*(\S.*)$", cpuinfo, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def instruction_sets() -> dict[str, str]:
    """Return by library which instructions its kernels use here: what the processor has, less what the environment forbids.

    ``NumPy``: the newest set that its loops were compiled for. ``BLAS``: the core of OpenBLAS behind NumPy, or the library
    that takes its place. ``PyTorch``: its vectors. ``Numba``: the processor that it compiles for.
    """
    on = [name for name in (*loops.__cpu_baseline__, *loops.__cpu_dispatch__) if loops.__cpu_features__[name]]
    return {
        "NumPy": on[-1] if on else "baseline",
        "BLAS": _blas(),
        "PyTorch": torch.backends.cpu.get_cpu_capability(),
        "Numba": str(config.CPU_NAME or binding.get_host_cpu_name()),  # type: ignore[attr-defined]
    }


def _blas() -> str:
    """Return the core that OpenBLAS runs as; the name of the library where it is another, or not NumPy's own copy."""
    package = Path(np.__file__).parent
    for folder in (package.with_name("numpy.libs"), package / ".dylibs"):
        for path in folder.glob("*openblas*"):
            library = ctypes.CDLL(str(path))
            for name in CORENAMES:
                if hasattr(library, name):
                    ask = getattr(library, name)
                    ask.restype = ctypes.c_char_p
                    return f"OpenBLAS {ask().decode()}"
    return str(np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"])
