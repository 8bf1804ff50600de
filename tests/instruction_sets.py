"""Other processors, asked for on this one: environments in which libraries leave out its newer instructions.

Last bits differ between instruction sets, since sums run in another order and products are rounded once more or once less.
Neither a test nor a chapter may notice. There are none but on x86-64 with AVX2: only there can each of the libraries be told to
leave out what is newer.
"""

import os
import platform
import sys

from numpy._core._multiarray_umath import __cpu_dispatch__ as DISPATCHED
from numpy._core._multiarray_umath import __cpu_features__ as FEATURES

HAS_AVX2 = platform.machine().lower() in ("x86_64", "amd64") and FEATURES["AVX2"]
BEYOND_AVX2 = [name for name in DISPATCHED if name.startswith(("AVX512", "X86_V4"))]

HASWELL = {  # AVX2 and FMA, as processors have them since 2013
    "NPY_DISABLE_CPU_FEATURES": " ".join(BEYOND_AVX2),
    "OPENBLAS_CORETYPE": "Haswell",  # behind NumPy and SciPy
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # those of its name; else the host's would be added
    "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's loops
    "MKL_CBWR": "AVX2",  # behind PyTorch, as is the next
    "ONEDNN_MAX_CPU_ISA": "AVX2",
}
NEHALEM = {  # SSE4.2, as of 2008: products and sums are rounded each by itself
    "NPY_DISABLE_CPU_FEATURES": " ".join(DISPATCHED),  # those that this processor lacks may be named
    "OPENBLAS_CORETYPE": "Nehalem",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "",
    "ATEN_CPU_CAPABILITY": "avx2",  # "default" trips an assertion of PyTorch's own
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4",  # exp, log and sin of C, Python and Numba
}
INSTRUCTION_SETS: dict[str, dict[str, str]] = {"haswell": HASWELL, "nehalem": NEHALEM} if HAS_AVX2 else {}

if __name__ == "__main__":  # python tests/instruction_sets.py nehalem COMMAND ...: run a command so
    _, name, *command = sys.argv
    os.execvpe(command[0], command, {**os.environ, **INSTRUCTION_SETS[name]})
