"""Loading Keras and its backend: quietly, and without taking a whole GPU."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


def load() -> str:
    """Imports Keras with the backend that `KERAS_BACKEND` names (TensorFlow by default).

    TensorFlow's own remarks at start are held back; they appear when loading fails. On a GPU, memory is taken as it
    is needed.

    Returns:
      the name of the backend.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # JAX's way to take memory as needed
    with native_stderr_held_back():
        import keras

        name = str(keras.config.backend())
        if name == "tensorflow":
            import tensorflow as tf

            for device in tf.config.list_physical_devices("GPU"):
                with contextlib.suppress(RuntimeError):  # already in use, by a program that uses us as a library
                    tf.config.experimental.set_memory_growth(device, True)
    return name


def share_batches(batch_size: int) -> int:
    """How many work on each batch at the same time; to be called before a model is built.

    With JAX all devices do, by `keras.distribution`; with TensorFlow and no GPU two programs on the processor (see
    `training.split_batch`); otherwise one device does everything.

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
def native_stderr_held_back() -> Iterator[None]:
    """Holds back what libraries write to the process's standard error behind Python's back.

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
        except BaseException:
            os.dup2(kept, descriptor)
            held.seek(0)
            os.write(descriptor, held.read())
            raise
        finally:
            os.dup2(kept, descriptor)
            os.close(kept)
