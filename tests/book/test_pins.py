"""The pins of requirements.txt are complete, and there are wheels of them, for each Python and system that we promise.

One look at the package index, by uv, which names every wheel of every package; without a network there is nothing to see.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11.2", "3.12.0", "3.13.0")  # the oldest: Debian 12
SYSTEMS = (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
OLDEST_GLIBC, OLDEST_MACOS = 28, (14, 0)  # 2.28: what PyTorch asks for

FROM_SOURCE = {"connection-pool"}  # one file of Python, of which there is no wheel
OF_TORCH = ("cuda-", "nvidia-", "triton")  # CUDA: PyTorch's own pins, absent from its build without


def run_uv() -> subprocess.CompletedProcess[str]:
    command = [
        "pip",
        "compile",
        "--quiet",
        "--universal",
        "--python-version",
        PYTHONS[0],
        "--format",
        "pylock.toml",
    ]
    files = ["--no-header", "requirements.txt"]
    uv = [sys.executable, "-m", "uv"]
    return subprocess.run([*uv, *command, *files], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def packages() -> list[dict]:
    """Every package that the pins lead to on any system, with its wheels."""
    run = run_uv()
    if any(
        sign in run.stderr for sign in ("Failed to fetch", "error sending request", "network was disabled")
    ):
        pytest.skip("the package index does not answer")
    assert run.returncode == 0, run.stderr
    return tomllib.loads(run.stdout)["packages"]


def markers(python: str, system: str, machine: str) -> dict[str, str]:
    """What markers ask about a machine."""
    name = {"linux": "Linux", "darwin": "Darwin"}[system]
    asked = {"sys_platform": system, "platform_system": name, "platform_machine": machine, "os_name": "posix"}
    version = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    return {**default_environment(), **asked, **version}


def tags(python: str, system: str, machine: str) -> set[Tag]:
    """The wheels that fit a machine."""
    major, minor, _ = map(int, python.split("."))
    platforms = [f"manylinux_2_{glibc}_{machine}" for glibc in range(OLDEST_GLIBC, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux1_{machine}"]  # names of older ones
    if system == "darwin":
        platforms = list(mac_platforms(OLDEST_MACOS, machine))
    return {
        *cpython_tags((major, minor), platforms=platforms),
        *compatible_tags((major, minor), f"cp{major}{minor}", platforms),
    }


def has_wheel(package: dict, fitting: set[Tag]) -> bool:
    files = [wheel["url"].rpartition("/")[2] for wheel in package.get("wheels", [])]
    return any(parse_wheel_filename(file)[3] & fitting for file in files)


@pytest.mark.parametrize("system", SYSTEMS, ids="-".join)
@pytest.mark.parametrize("python", PYTHONS)
def test_the_pins_fit(packages, python, system):
    here = markers(python, *system)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    listed = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name) for pin in listed if not pin.marker or pin.marker.evaluate(here)}
    needed = [p for p in packages if "marker" not in p or Marker(p["marker"]).evaluate(here)]
    names = {p["name"] for p in needed if not p["name"].startswith(OF_TORCH)}
    assert names == pinned
    fitting = tags(python, *system)
    assert {p["name"] for p in needed if not has_wheel(p, fitting)} == FROM_SOURCE
