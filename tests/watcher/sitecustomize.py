"""Loaded at the start of every Python process of a watched command: logs what it opens and refuses the network.

Put this folder on PYTHONPATH and name a file in DDSP_WATCH_LOG. Each line of the log is an event of Python's audit
hooks (PEP 578) with its path or address: a connection, name lookup or listening socket; a file opened for writing,
moved or removed.
"""

import os
import sys

_LOG = os.environ.get("DDSP_WATCH_LOG")
_NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}
_FILES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _note(event, words):
    descriptor = os.open(_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f"{event}\t{words}\n".encode("utf-8", "backslashreplace"))
    finally:
        os.close(descriptor)


def _absolute(path):
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - pathlib is not loaded yet, and links stay links


def _hook(event, arguments):
    if event == "socket.bind":  # not refused: what is allowed depends on the command
        if isinstance(arguments[1], tuple):
            _note(event, repr(arguments[1]))
    elif event in _NETWORK:
        target = arguments[1] if event.startswith(("socket.connect", "socket.send")) else arguments[0]
        if event != "socket.connect" or isinstance(target, tuple):  # not a socket of the file system
            _note(event, repr(target))
            raise OSError(f"this command may not use the network: {event} {target!r}")
    elif event == "open":
        path, _, flags = arguments
        if isinstance(path, (str, bytes)) and (flags or 0) & _WRITES and os.fsdecode(path) != _LOG:
            _note(event, _absolute(path))
    elif event in _FILES and all(isinstance(word, (str, bytes)) or word in (-1, 0o777) for word in arguments):
        # Not relative to an open folder (dir_fd): of a tree that is removed the top is noted, which is enough.
        for path in arguments[: 2 if event in {"os.rename", "os.link"} else 1]:
            if isinstance(path, (str, bytes)):
                _note(event, _absolute(path))


if _LOG:
    sys.addaudithook(_hook)
