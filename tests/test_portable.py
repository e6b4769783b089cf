"""Nothing in the package needs POSIX: most microscopes are run from Windows.

Read from the sources, as no test machine has Windows. What is used only where it exists
is listed, with the guard that must stand in the same file.
"""

from __future__ import annotations

import ast
import multiprocessing
from pathlib import Path

import pytest

import deepblur_live

PACKAGE = Path(deepblur_live.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Modules and names that Python has on POSIX alone, by its documentation.
MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd",
    "readline", "resource", "spwd", "syslog", "termios", "tty",
}  # fmt: skip
OF_OS = {
    "WNOHANG", "chown", "chroot", "confstr", "ctermid", "fchdir", "fchown", "fork",
    "forkpty", "fpathconf", "fstatvfs", "getegid", "geteuid", "getgid", "getgrouplist",
    "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getresuid",
    "getsid", "getuid", "getxattr", "initgroups", "killpg", "lchown", "lockf",
    "memfd_create", "mkfifo", "mknod", "nice", "openpty", "pathconf", "pipe2",
    "posix_fadvise", "posix_fallocate", "posix_spawn", "posix_spawnp", "pread",
    "preadv", "pwrite", "pwritev", "readv", "register_at_fork", "sched_getaffinity",
    "sched_setaffinity", "sched_setscheduler", "sched_yield", "sendfile", "setegid",
    "seteuid", "setgid", "setgroups", "setpgid", "setpriority", "setregid", "setreuid",
    "setsid", "setuid", "setxattr", "splice", "statvfs", "sync", "sysconf",
    "tcgetpgrp", "tcsetpgrp", "ttyname", "uname", "wait", "wait3", "wait4", "waitid",
    "writev",
}  # fmt: skip
# Of `signal`: what POSIX has alone, and the signals that Windows has as well.
OF_SIGNAL = {
    "alarm", "getitimer", "pause", "pidfd_send_signal", "pthread_kill",
    "pthread_sigmask", "setitimer", "siginterrupt", "sigpending", "sigtimedwait",
    "sigwait", "sigwaitinfo",
}  # fmt: skip
SIGNALS = {
    "SIGABRT", "SIGBREAK", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM",
    "SIG_DFL", "SIG_IGN",
}  # fmt: skip
# Windows starts processes by spawn alone; these use the system's default.
OF_PROCESSES = {"Manager", "Pipe", "Pool", "Process", "Queue", "ProcessPoolExecutor"}
FOLDERS = ("/tmp", "/dev/", "/proc/", "/etc/", "/usr/", "/var/", "/home/", "/run/")

# File and what it uses: the guard.
GUARDED = {
    ("acquisition/launch.py", "signal.pthread_sigmask"): (
        'if not hasattr(signal, "pthread_sigmask")'
    ),
    ("acquisition/launch.py", "signal.SIG_BLOCK"): (
        'if not hasattr(signal, "pthread_sigmask")'
    ),
    ("acquisition/launch.py", "signal.SIG_SETMASK"): (
        'if not hasattr(signal, "pthread_sigmask")'
    ),
    ("runtime/async_estimator.py", "os.getpriority"): 'if sys.platform == "linux"',
    ("runtime/async_estimator.py", "os.setpriority"): 'if sys.platform == "linux"',
    ("runtime/async_estimator.py", "os.PRIO_PROCESS"): 'if sys.platform == "linux"',
    ("runtime/device.py", "os.sched_getaffinity"): (
        'if hasattr(os, "sched_getaffinity")'
    ),
    ("session/sinks/command.py", "os.killpg"): 'if sys.platform == "win32"',
    ("session/sinks/command.py", "signal.SIGKILL"): 'if sys.platform == "win32"',
}


def uses(tree: ast.AST) -> list[str]:
    """Return what a module uses that Windows lacks, or does otherwise."""
    found = []
    docstrings = set()
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                docstrings.add(text)
            case ast.Import(names=names):
                found += [n.name for n in names if n.name in MODULES]
            case ast.ImportFrom(module=module, names=names):
                full = [f"{module}.{name.name}" for name in names]
                found += [module] if module in MODULES else []
                found += [name for name in full if _is_foreign(*name.rsplit(".", 1))]
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                if _is_foreign(name, attribute):
                    found.append(f"{name}.{attribute}")
            case ast.Call():
                found += _of_call(node)
            case ast.Constant(value=str() as text) if node not in docstrings:
                if text.startswith(FOLDERS):
                    found.append(text)
    return found


def _is_foreign(module: str, name: str) -> bool:
    if module == "os":
        return name in OF_OS or name.startswith(("PRIO_", "SCHED_", "POSIX_", "RTLD_"))
    if module == "signal":
        constant = name.startswith(("SIG", "ITIMER_")) and name.isupper()
        return name in OF_SIGNAL or (constant and name not in SIGNALS)
    return module in ("multiprocessing", "concurrent.futures") and name in OF_PROCESSES


def _of_call(call: ast.Call) -> list[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    name = call.func.id if isinstance(call.func, ast.Name) else name
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    found = ["preexec_fn"] if "preexec_fn" in given else []
    if name in ("get_context", "set_start_method"):
        method = call.args[0] if call.args else given.get("method")
        if not (isinstance(method, ast.Constant) and method.value == "spawn"):
            found.append(f"{name} without spawn")
    # Text is in the encoding of the system's language, which lacks most characters.
    first = 1 if name == "write_text" else 0
    if name in ("read_text", "write_text"):
        if "encoding" not in given and len(call.args) <= first:
            found.append(f"{name} without encoding")
    elif name == "open" and _mode(call, given) is not None:
        if "b" not in str(_mode(call, given)) and "encoding" not in given:
            found.append("open without encoding")
    return found


def _mode(call: ast.Call, given: dict[str | None, ast.expr]) -> str | None:
    """Return the mode of a file that is opened; None for what opens something else."""
    builtin = isinstance(call.func, ast.Name)
    place = 1 if builtin else 0
    mode = given.get("mode", call.args[place] if len(call.args) > place else None)
    if isinstance(mode, ast.Constant) and isinstance(mode.value, str):
        short = len(mode.value) <= 3 and not set(mode.value) - set("rwxab+t")
        return mode.value if short else None
    return "r" if builtin and mode is None else None


def test_nothing_needs_posix() -> None:
    found = {
        (file.relative_to(PACKAGE).as_posix(), name)
        for file in FILES
        for name in uses(ast.parse(file.read_text("utf-8")))
    }
    assert found - GUARDED.keys() == set()
    assert GUARDED.keys() - found == set(), "not used any more: take it out here"
    for (file, name), guard in GUARDED.items():
        assert guard in (PACKAGE / file).read_text("utf-8"), (file, name)


@pytest.mark.parametrize(
    "source",
    [
        "import fcntl",
        "from resource import getrusage",
        "import os\nos.fork()",
        "from os import killpg",
        "import signal\nsignal.alarm(1)",
        "signal.SIGUSR1",
        "path = '/tmp/frames'",
        "f'/dev/shm/{name}'",
        "subprocess.run(a, preexec_fn=f)",
        "multiprocessing.Process(target=f)",
        "multiprocessing.get_context('fork')",
        "multiprocessing.get_context()",
        "path.read_text()",
        "path.write_text('µ')",
        "open(path)",
        "open(path, 'w')",
        "path.open('a')",
    ],
)
def test_what_is_found(source: str) -> None:
    assert len(uses(ast.parse(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import os\nos.replace(a, b)",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "'''/tmp is not a folder here.'''",
        "multiprocessing.get_context('spawn')",
        "path.read_text('utf-8')",
        "path.write_text('µ', encoding='utf-8')",
        "open(path, 'rb')",
        "path.open('r', encoding='utf-8')",
        "webbrowser.open(address)",
        "Image.open(path)",
    ],
)
def test_what_is_not(source: str) -> None:
    assert uses(ast.parse(source)) == []


def test_tests_start_processes_as_windows_does() -> None:
    assert multiprocessing.get_start_method() == "spawn"
