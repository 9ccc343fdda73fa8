"""Linux, macOS and Windows: names that only some systems have are used after a check only.

These systems are not at hand for the tests, so the source is read.
"""

from __future__ import annotations

import ast
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ddsp_cli.dataset.sources import matches_pattern

SOURCES = Path(__file__).parent.parent / "src" / "ddsp_cli"

#: Modules and names that are missing on Windows, and some of them on macOS.
MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "termios", "tty", "syslog", "crypt", "spwd", "readline"}
WINDOWS_MODULES = {"msvcrt", "winreg", "winsound", "_winapi"}
NAMES = {
    "os": {"fork", "forkpty", "getuid", "geteuid", "getgid", "setuid", "setsid", "setpgid", "getpgid", "killpg", "nice",
           "mkfifo", "mknod", "chown", "chroot", "statvfs", "uname", "wait", "waitpid", "wait3", "pread", "pwrite",
           "sched_setscheduler", "sched_param", "sched_getaffinity", "sched_setaffinity", "posix_fallocate",
           "getloadavg", "O_NONBLOCK", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_BINARY", "O_TMPFILE",
           "memfd_create", "sendfile", "fdatasync", "posix_fadvise", "ttyname", "getlogin", "set_blocking",
           "sync", "WNOHANG"},
    "signal": {"SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGCHLD", "SIGWINCH", "SIGSTOP",
               "SIGQUIT", "SIGTSTP", "SIGCONT", "alarm", "setitimer", "pthread_sigmask", "pthread_kill", "sigwait",
               "siginterrupt", "SIGBREAK", "CTRL_C_EVENT", "CTRL_BREAK_EVENT"},
    "mmap": {"MADV_DONTNEED", "MAP_SHARED", "MAP_PRIVATE", "PROT_READ", "PROT_WRITE", "MAP_ANONYMOUS"},
    "socket": {"AF_UNIX", "SO_REUSEPORT"},
    "time": {"tzset", "clock_gettime", "CLOCK_MONOTONIC", "pthread_getcpuclockid"},
    "subprocess": {"CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW", "STARTUPINFO"},
}  # fmt: skip

#: What a question for the system is made of.
QUESTIONS = ("platform", "os.name", "hasattr", "ImportError", "AttributeError")


def uses(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Names in a module that not every system has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names if alias.name in MODULES | WINDOWS_MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES | WINDOWS_MODULES:
            yield node.module, node
        elif isinstance(node, ast.ImportFrom) and node.module in NAMES:
            yield from ((f"{node.module}.{a.name}", node) for a in node.names if a.name in NAMES[node.module])
        elif isinstance(node, ast.Attribute) and node.attr in NAMES.get(getattr(node.value, "id", ""), ()):
            yield ast.unparse(node), node


def asks(node: ast.AST) -> bool:
    """Whether a statement checks the system: `if sys.platform`, `except ImportError`, `suppress(...)`."""
    if isinstance(node, ast.If | ast.IfExp):
        return any(word in ast.unparse(node.test) for word in QUESTIONS)
    if isinstance(node, ast.Try):
        return any(handler.type and any(w in ast.unparse(handler.type) for w in QUESTIONS) for handler in node.handlers)
    if isinstance(node, ast.With):
        return any(any(word in ast.unparse(item.context_expr) for word in QUESTIONS) for item in node.items)
    return False


def is_guarded(node: ast.AST, parents: dict[ast.AST, ast.AST], tree: ast.AST) -> bool:
    """Whether a question is asked around a use, or before it in the same function, which is left there."""
    above: ast.AST | None = node
    while above is not None:
        if asks(above):
            return True
        if isinstance(above, ast.FunctionDef):
            before = [one for one in ast.walk(above) if getattr(one, "lineno", 10**9) < node.lineno and asks(one)]
            if any(isinstance(end, ast.Return) for one in before for end in ast.walk(one)):
                return True
            # a function that is only called behind a question, or whose import was answered there
            return any(
                isinstance(call, ast.Call)
                and getattr(call.func, "id", "") == above.name
                and is_guarded(call, parents, tree)
                for call in ast.walk(tree)
            )
        above = parents.get(above)
    return False


def unguarded(source: str) -> list[str]:
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return [f"{name} (line {node.lineno})" for name, node in uses(tree) if not is_guarded(node, parents, tree)]


def findings(reader: Callable[[str], list[str]]) -> dict[str, list[str]]:
    """Returns the findings of a checker in the modules of the package."""
    found = {path.relative_to(SOURCES).as_posix(): reader(path.read_text("utf-8")) for path in SOURCES.rglob("*.py")}
    assert len(found) > 100
    return {name: places for name, places in found.items() if places}


def test_names_that_only_some_systems_have_are_used_after_a_check():
    assert findings(unguarded) == {}


@pytest.mark.parametrize(
    "source",
    ["import fcntl", "import os\nos.fork()", "import signal\ndef f():\n    signal.signal(signal.SIGHUP, f)",
     "from resource import getrlimit", "import mmap\nx = mmap.MADV_DONTNEED", "from os import getuid"],
)  # fmt: skip
def test_the_reader_finds(source):
    """The test above can fail."""
    assert len(unguarded(source)) == 1


def unencoded(source: str) -> list[str]:
    """Text files that are opened in the encoding of the system."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(word.arg == "encoding" for word in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        words = [a.value for a in node.args if isinstance(a, ast.Constant)]
        words += [word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)]
        binary = any(isinstance(word, str) and "b" in word for word in words)
        opens = name == "open" and not binary and (not isinstance(node.func, ast.Attribute) or words or not node.args)
        of_text = any(word.arg in {"text", "universal_newlines"} for word in node.keywords)
        if name in {"read_text", "write_text"} or opens or (name in {"run", "Popen", "check_output"} and of_text):
            found.append(f"{name} (line {node.lineno})")
    return found


def test_text_has_an_encoding():
    assert findings(unencoded) == {}


@pytest.mark.parametrize("source", ["p.read_text()", "open(p)", "p.open('w')", "p.open()", "run(x, text=True)"])
def test_the_reader_finds_text(source):
    assert len(unencoded(source)) == 1


def test_letters_of_two_characters_are_those_of_one():
    one, two = (unicodedata.normalize(form, "Été_é.wav") for form in ("NFC", "NFD"))
    assert one != two
    assert matches_pattern(one, f"takes/{two}") and matches_pattern(two, f"takes/{one}")
    assert matches_pattern("*é.wav", two) and not matches_pattern("*e.wav", two)
