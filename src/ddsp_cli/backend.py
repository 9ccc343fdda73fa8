"""Load Keras and its backend: without messages, without a file in the user's home, without taking a whole GPU."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: Name of a thread that compiles and cannot be stopped. It changes nothing, so a program may end without it.
COMPILING = "ddsp-compiling"


def load() -> str:
    """Imports Keras with the backend that `KERAS_BACKEND` names (TensorFlow by default).

    Messages that TensorFlow writes while it loads are shown only when loading fails. GPU memory is allocated as needed.
    Keras reads `~/.keras/keras.json` where the user has one, and does not create it.

    Returns:
      the name of the backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX's way to take memory as needed
    with native_stderr_held_back():
        with _keras_home_untouched():
            import keras

        name = str(keras.config.backend())
        if name == "tensorflow":
            import tensorflow as tf

            for device in tf.config.list_physical_devices("GPU"):
                with contextlib.suppress(RuntimeError):  # already in use, by a program that uses us as a library
                    tf.config.experimental.set_memory_growth(device, True)
    return name


def share_batches(batch_size: int) -> int:
    """Counts the devices that share each batch; call it before a model is built.

    With JAX all devices do, by `keras.distribution`; with TensorFlow and no GPU two programs on the processor (see
    `training.parallel`); otherwise one device does everything.

    Args:
      batch_size: which has to be a multiple of those that take part; as many do as divide it.

    Returns:
      how many take part; batches of another size have to be multiples of it as well.
    """
    import keras

    if keras.config.backend() == "tensorflow":
        import tensorflow as tf

        return 1 if batch_size % 2 or tf.config.list_physical_devices("GPU") else 2
    if keras.config.backend() != "jax":
        return 1
    devices = keras.distribution.list_devices()
    n = max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)
    if n > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices[:n]))
    return n


@contextlib.contextmanager
def _keras_home_untouched() -> Iterator[None]:
    """Lets Keras write the settings file that it creates on its first import into a folder that is removed again."""
    home = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras"))
    if (home / "keras.json").exists() or "keras" in sys.modules:
        yield
        return
    before = os.environ.get("KERAS_HOME")
    with tempfile.TemporaryDirectory(prefix="ddsp-keras-") as folder:
        os.environ["KERAS_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["KERAS_HOME"]
            else:
                os.environ["KERAS_HOME"] = before


@contextlib.contextmanager
def native_stderr_held_back() -> Iterator[None]:
    """Holds back messages that native libraries write to the standard error of the process.

    Shown after all when the block raises. Does nothing where standard error is not a file of the process.
    """
    try:
        descriptor = sys.__stderr__.fileno() if sys.__stderr__ is not None else -1
        sys.stderr.flush()
        kept = os.dup(descriptor)
    except (OSError, ValueError, AttributeError):
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), descriptor)
        try:
            yield
        except Exception:  # not after Ctrl-C, where the messages are of no use
            os.dup2(kept, descriptor)
            held.seek(0)
            os.write(descriptor, held.read())
            raise
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
