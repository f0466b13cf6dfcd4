"""`python3 eegen COMMAND` in a clone sets the project up and runs the command; it needs only Python.

    python3 eegen train    makes .venv with the packages, and a clang where there is none, then runs `eegen train`
    python3 eegen test     adds the test tools, then runs every check, the quick ones first

The compiler is the one that EEGEN_CC names, else the newest clang on PATH, else the clang of the ziglang wheel, which
is installed in .venv then. EEGEN_CC=ziglang is the wheel's, clang-19 is that clang; `test` installs either.

Where eegen is installed, `python -m eegen COMMAND` is `eegen COMMAND`.
"""

from __future__ import annotations

import sys

if not __package__:
    sys.path.pop(0)  # started as a folder: a module of the package must not shadow one of the standard library

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "eegen-installed"  # first line: what was installed from; then its extras

CHECKS = (
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("pytest", "-n", "auto", "-m", "not slow"),
    ("pytest", "-n", "auto", "-m", "slow"),
)
NO_TESTS_COLLECTED = 5  # pytest's exit code


def main(arguments: list[str]) -> int:
    use_supported_python()
    testing = arguments[:1] == ["test"]
    set_up((["test"] if testing else []) + ([] if has_compiler() else ["clang"]))
    eegen = str(VENV / "bin" / "eegen")
    if testing:
        return check(eegen, arguments[1:])
    os.execv(eegen, [eegen, *arguments])


def use_supported_python() -> None:
    """Run this again with a newer Python on PATH where this one is too old."""
    if sys.hexversion >= 0x030A0000:
        return
    for minor in range(13, 9, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer:
            os.execv(newer, [newer, *sys.argv])
    sys.exit(f"eegen: Python 3.10 or newer is needed, {sys.executable} is {sys.version.split()[0]}")


def set_up(extras: list[str]) -> None:
    """Install the clone, editable, in .venv, unless it is there with these extras already."""
    source = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()
    working = os.access(PYTHON, os.X_OK)
    stamp = STAMP.read_text().split() if working and STAMP.exists() else []
    if stamp[:1] == [source] and set(extras) <= set(stamp[1:]):
        return
    if not working or not can_run([PYTHON, "-I", "-c", "import pip"]):
        make_venv(clear=not working)
    say(f"installing eegen and the packages it needs in {VENV}" + (f", with {', '.join(extras)}" if extras else ""))
    if "clang" in extras:
        say("no clang was found, so the ziglang wheel (about 100 MB) brings one")
    wanted = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
    run([*module("pip", PYTHON), "install", "--quiet", "--disable-pip-version-check", "--editable", wanted])
    STAMP.write_text("\n".join([source, *sorted(set(extras) | set(stamp[1:]))]) + "\n")


def module(name: str, python: str | Path = sys.executable) -> list[str | Path]:
    """The command that runs an installed module; -I: never a file of that name in the current folder."""
    return [python, "-I", "-m", name]


def make_venv(clear: bool) -> None:
    say(f"making {VENV} with Python {sys.version.split()[0]}")
    venv = [*module("venv"), *(["--clear"] if clear else []), VENV]
    if not can_run([*module("ensurepip"), "--version"]):
        # Another pip, where there is one, can install itself into an environment without it.
        pip = [*module("pip"), "--python", PYTHON, "install", "--quiet", "pip"]
        if can_run([*venv, "--without-pip"]) and can_run(pip):
            return
        add_venv_module()
    run(venv)


def add_venv_module() -> None:
    """Debian and Ubuntu keep Python's `ensurepip` in a package of its own."""
    package = f"python3.{sys.version_info[1]}-venv"
    if not shutil.which("apt-get"):
        sys.exit(f"eegen: {sys.executable} lacks the modules venv and ensurepip; install them and run this again")
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if rights and (not shutil.which("sudo") or subprocess.call([*rights, "true"], stderr=subprocess.DEVNULL)):
        sys.exit(f"eegen: {sys.executable} cannot make virtual environments; run: sudo apt-get install {package}")
    say(f"installing {package}, which Python needs to make virtual environments")
    run([*rights, "apt-get", "update", "-qq"])
    run([*rights, "apt-get", "install", "-y", "-qq", package])


def has_compiler() -> bool:
    """Whether the compiler that eegen will use is there, or is not the wheel's."""
    named = os.environ.get("EEGEN_CC", "").strip()
    if named:
        return named not in ("zig", "ziglang") or shutil.which(named) is not None
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    found = [clang for folder in folders for name in ("clang", "clang-[0-9]*") for clang in sorted(folder.glob(name))]
    # A Mac without the command line tools has a clang that only prints that they are missing: run it.
    return any(can_run([clang, "--version"]) for clang in found)


def check(eegen: str, pytest_arguments: list[str]) -> int:
    """Run every check, the quickest first, up to the first that fails; returns its exit code."""
    os.chdir(ROOT)
    os.environ["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    say("eegen doctor --fix")
    if subprocess.call([eegen, "doctor", "--fix"]):
        if os.environ.get("CI"):
            return 1
        say("the tests that need what is missing are skipped")
    for tool, *options in CHECKS:
        more = pytest_arguments if tool == "pytest" else []
        say(" ".join([tool, *options, *more]))
        code = subprocess.call([PYTHON, "-m", tool, *options, *more])
        if code and not (tool == "pytest" and code == NO_TESTS_COLLECTED):
            return code
    say("every check passed")
    return 0


def can_run(command: list[str | Path]) -> bool:
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def run(command: list[str | Path]) -> None:
    code = subprocess.call(command)
    if code:
        sys.exit(f"eegen: this failed with exit code {code}: {' '.join(map(str, command))}")


def say(what: str) -> None:
    print(f"eegen: {what}", flush=True)


if __name__ == "__main__":
    if __package__:
        from eegen.commands.app import main as command

        command()
    else:
        try:
            sys.exit(main(sys.argv[1:]))
        except KeyboardInterrupt:
            sys.exit(130)
