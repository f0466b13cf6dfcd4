"""What doctor finds and installs, on machines made of shell scripts."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from eegen.targets import TARGETS
from eegen.toolchain import doctor
from eegen.toolchain.doctor import Finding
from eegen.toolchain.installers import Action


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Linux x86-64 machine with nothing installed; returns the one folder on its PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "env").symlink_to("/usr/bin/env")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("EEGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EEGEN_CC", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("eegen.toolchain.compiler_search.zig_wheel", lambda: wheel(folder))
    monkeypatch.setattr(doctor, "zig_wheel", lambda: wheel(folder))
    monkeypatch.setattr(doctor, "cpu_machine", lambda: "x86_64")
    monkeypatch.setattr(
        doctor,
        "runs_here",
        lambda target: None if target.machine in ("any", "x86_64") else f"needs an {target.machine} processor",
    )
    libraries = tmp_path / "libraries"
    monkeypatch.setattr(doctor, "cross_libc", lambda m: libraries / m if (libraries / m).exists() else None)
    return folder


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def wheel(folder: Path) -> tuple[str, ...] | None:
    """The compiler of the machine's ziglang wheel, outside PATH."""
    zig = folder.parent / "ziglang" / "zig"
    return (str(zig), "cc") if zig.exists() else None


def ziglang(folder: Path) -> None:
    (folder.parent / "ziglang").mkdir()
    script(folder.parent / "ziglang" / "zig", "echo clang version 22.1.0")


def clang(folder: Path, number: int, sanitizers: bool = True) -> None:
    resources = folder.parent / f"resources-{number}"
    if sanitizers:
        (resources / "lib" / "linux").mkdir(parents=True)
        (resources / "lib" / "linux" / "libclang_rt.asan-x86_64.a").touch()
    answers = f'[ "$1" = -print-resource-dir ] && echo {resources} || echo "clang version {number}.1.0"'
    script(folder / f"clang-{number}", answers)


def debian(folder: Path, monkeypatch: pytest.MonkeyPatch, works: bool = True) -> None:
    """apt-get that notes what it is asked and, if it `works`, installs scripts in place of programs."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    script(folder / "apt-cache", 'echo "clang-14 - a compiler"; echo "clang-19 - a compiler"; echo "clang-x - no"')
    install = f"""[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9
echo "$@" >> {folder.parent}/apt.log
[ "$1" = install ] || exit 0
{"" if works else "echo 'E: no network'; exit 100"}
for package; do
  case $package in
    clang-*)
      number=${{package#clang-}}
      (echo '#!/bin/sh'; echo '[ "$1" = -print-resource-dir ] && echo {folder.parent}/resources-'$number' && exit 0'
       echo "echo clang version $number.1.7") > {folder}/$package; /bin/chmod +x {folder}/$package;;
    libclang-rt-*) number=${{package#libclang-rt-}}; rt={folder.parent}/resources-${{number%-dev}}/lib
      /bin/mkdir -p $rt; : > $rt/libclang_rt.asan.a;;
    qemu-user)
      for qemu in qemu-aarch64 qemu-riscv64; do
        printf '#!/bin/sh\necho qemu version 7.2\n' > {folder}/$qemu; /bin/chmod +x {folder}/$qemu
      done;;
    libc6-dev-*-cross) machine=${{package#libc6-dev-}}; machine=${{machine%-cross}}
      [ $machine = arm64 ] && machine=aarch64
      /bin/mkdir -p {folder.parent}/libraries; : > {folder.parent}/libraries/$machine;;
  esac
done"""
    script(folder / "apt-get", install)


def named(findings: list[Finding], name: str) -> list[Finding]:
    return [finding for finding in findings if finding.name == name]


def missing(findings: list[Finding]) -> set[str]:
    return {finding.name for finding in findings if finding.state == "missing"}


CROSS = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross"]


def test_a_bare_machine_lacks_a_compiler_emulators_and_c_libraries() -> None:
    found = doctor.findings()
    assert missing(found) == {"compiler", "emulation", "programs for Arm", "programs for RISC-V"}
    assert "ziglang" in str(named(found, "compiler")[0].fix_command)


def test_every_target_is_listed_with_the_reason_it_does_not_run() -> None:
    found = {finding.name: finding for finding in doctor.findings()}
    for name in TARGETS:
        assert f"target {name}" in found
    assert found["target scalar"].state == "ok"
    assert found["target neon"].detail == "needs an aarch64 processor"


def test_the_compiler_in_use_comes_before_the_others(bare_machine: Path) -> None:
    clang(bare_machine, 19)
    clang(bare_machine, 20)
    first, second = named(doctor.findings(), "compiler")
    assert first.state == "ok"
    assert "clang-20: clang version 20.1.0, the one used" in first.detail
    assert second.state == "info"
    assert "clang-19" in second.detail


def test_an_old_clang_is_no_good_for_sme2(bare_machine: Path) -> None:
    clang(bare_machine, 16)
    (found,) = named(doctor.findings(), "compiler for sme2")
    assert found.state == "missing"
    assert "needs clang 19 or newer" in found.detail


def test_a_wrong_cc_is_found_but_nothing_is_installed_for_it(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(bare_machine, monkeypatch)
    doctor.fix()
    found = named(doctor.findings("no-such-cc"), "compiler")
    assert found[0].state == "missing"
    assert "no-such-cc" in found[0].detail
    assert doctor.fix(cc="no-such-cc") == []


def test_fix_installs_what_is_missing_and_a_second_time_nothing(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(bare_machine, monkeypatch)
    lines: list[str] = []
    actions = doctor.fix(lines.append)
    assert [action.ok for action in actions] == [True, True]
    assert lines == [action.command for action in actions]
    update, install = (bare_machine.parent / "apt.log").read_text().splitlines()
    assert update == "update"
    assert install.split()[3:] == ["clang-19", "lld-19", "libclang-rt-19-dev", "qemu-user", *CROSS]
    assert missing(doctor.findings()) == set()
    assert doctor.fix() == []


def test_only_what_is_missing_is_asked_for(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(bare_machine, monkeypatch)
    clang(bare_machine, 19)
    script(bare_machine / "qemu-aarch64", "echo qemu-aarch64 version 7.2")
    script(bare_machine / "qemu-riscv64", "echo qemu-riscv64 version 7.2")
    doctor.fix()
    install = (bare_machine.parent / "apt.log").read_text().splitlines()[1]
    assert install.split()[3:] == CROSS


def test_the_wheel_is_a_compiler_that_needs_only_qemu(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clang is installed beside a wheel that works."""
    debian(bare_machine, monkeypatch)
    ziglang(bare_machine)
    assert missing(doctor.findings()) == {"emulation"}
    doctor.fix()
    assert (bare_machine.parent / "apt.log").read_text().splitlines()[1].split()[3:] == ["qemu-user"]
    assert missing(doctor.findings()) == set()


@pytest.mark.parametrize("given", ["--cc", "EEGEN_CC"])
def test_a_clang_asked_for_is_installed_beside_the_wheel(
    given: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(bare_machine, monkeypatch)
    ziglang(bare_machine)
    if given == "EEGEN_CC":
        monkeypatch.setenv("EEGEN_CC", "clang-18")
    cc = "clang-18" if given == "--cc" else None
    assert named(doctor.findings(cc), "compiler")[0].fix_command == "apt-get install -y clang-18 lld-18"
    assert all(action.ok for action in doctor.fix(cc=cc))
    assert "clang-18: clang version 18.1.7, the one used" in named(doctor.findings(cc), "compiler")[0].detail
    assert missing(doctor.findings(cc)) <= {"compiler for sme2"}


def test_the_wheel_asked_for_is_installed_beside_a_clang(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(bare_machine, monkeypatch)
    doctor.fix()
    pip = bare_machine.parent / "pip-of-this-test"
    monkeypatch.setattr(doctor, "wheel_command", lambda: [str(pip)])
    monkeypatch.setattr(doctor, "wheel_line", lambda: "pip install ziglang")
    script(
        pip,
        f"/bin/mkdir {bare_machine.parent}/ziglang; /bin/cp {bare_machine}/clang-19 {bare_machine.parent}/ziglang/zig",
    )
    found = named(doctor.findings("ziglang"), "compiler")[0]
    assert (found.state, found.fix_command) == ("missing", "pip install ziglang")
    assert [action.command for action in doctor.fix(cc="ziglang")] == [str(pip)]
    assert named(doctor.findings("ziglang"), "compiler")[0].state == "ok"


def test_a_clang_without_sanitizers_gets_them(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(bare_machine, monkeypatch)
    clang(bare_machine, 20, sanitizers=False)
    (found,) = named(doctor.findings(), "sanitizers")
    assert (found.state, found.fix_command) == ("missing", "apt-get install -y libclang-rt-20-dev")
    doctor.fix()
    assert named(doctor.findings(), "sanitizers")[0].state == "ok"


def test_where_apt_fails_the_wheel_is_tried(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debian(bare_machine, monkeypatch, works=False)
    monkeypatch.setattr(doctor, "wheel_command", lambda: ["pip-of-this-test", "install", "ziglang"])
    script(bare_machine / "pip-of-this-test", "exit 0")
    actions = doctor.fix()
    assert [action.ok for action in actions] == [True, False, True]
    assert actions[1].output == "E: no network"
    assert actions[2].command == "pip-of-this-test install ziglang"


def test_without_rights_only_the_wheel_is_installed_and_the_rest_is_told(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    debian(bare_machine, monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    script(bare_machine / "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    monkeypatch.setattr(doctor, "wheel_command", lambda: ["pip-of-this-test"])
    script(bare_machine / "pip-of-this-test", f'echo "clang version 22.1" > {bare_machine}/x')
    assert doctor.fix() == [Action("pip-of-this-test", True, "")]
    assert not (bare_machine.parent / "apt.log").exists()
    commands = {finding.name: finding.fix_command for finding in doctor.findings()}
    assert commands["emulation"] == "sudo apt-get install -y qemu-user"
    assert commands["compiler"] == "sudo apt-get install -y clang-19 lld-19"


def test_the_cache_is_described_without_being_made(tmp_path: Path) -> None:
    (found,) = named(doctor.findings(), "cache")
    assert found.detail == f"{tmp_path / 'cache'}: 0 builds, 0.0 MB"
