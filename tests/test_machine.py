import platform

import pytest

from one_step_trap.book import machine as m

XEON = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.00GHz\nstepping\t: 3\n"
ARM = "processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [(XEON * 2, "Intel(R) Xeon(R) CPU @ 2.00GHz"), (ARM, ""), ("", ""), ("model name\t: \ncores\t: 2\n", "")],
)
def test_the_name_of_a_processor(cpuinfo, name):
    assert m.named_in(cpuinfo) == name


def test_a_processor_without_a_name_has_that_of_its_architecture(monkeypatch):
    monkeypatch.setattr(m, "named_in", lambda text: "")
    monkeypatch.setattr(m.sys, "platform", "linux")
    assert m.processor() == platform.machine()


def test_a_mac_is_asked_for_the_name(monkeypatch, tmp_path):
    program = tmp_path / "sysctl"
    program.write_text('#!/bin/sh\n[ "$*" = "-n machdep.cpu.brand_string" ] && echo "Apple M4"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(m.sys, "platform", "darwin")
    assert m.processor() == "Apple M4"


def test_this_machine_in_words():
    here, words = m.machine(), m.in_words()
    assert words.startswith(f"{here['processor']} ({platform.machine()}), {here['cores']} cores; NumPy ")
    assert list(here["instruction_sets"]) == ["NumPy", "BLAS", "PyTorch", "Numba"]
    assert all(f"{library} {used}" in words for library, used in here["instruction_sets"].items())
    assert words.endswith("; no GPU used")
    assert "\n" not in words


def test_a_gpu_that_was_used_is_told(monkeypatch):
    monkeypatch.setattr(m.torch.cuda, "is_initialized", lambda: True)
    assert m.in_words().endswith("; a GPU used")
