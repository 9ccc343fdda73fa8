"""Folders of the user, where the platform has them: for data that is kept, and for caches that may be removed."""

from __future__ import annotations

import os
from pathlib import Path

#: Environment variable that names another folder for caches.
CACHE_VARIABLE = "DDSP_CACHE"


def data_folder(name: str) -> Path:
    """Returns the folder of this name in the user's folder for data of programs."""
    import platformdirs

    return platformdirs.user_data_path("ddsp", appauthor=False) / name


def cache_folder(name: str) -> Path:
    """Returns the folder of this name in `$DDSP_CACHE`, or else in the user's folder for caches."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser() / name
    import platformdirs

    # without a subfolder Cache on Windows
    return platformdirs.user_cache_path("ddsp", appauthor=False, opinion=False) / name
