"""Constants of a TensorFlow Lite file on the boundary that its schema asks for and its Python code forgets."""

from __future__ import annotations

from typing import Any

import numpy as np

_ALIGNMENT = 16  # force_align of Buffer.data in the schema


def aligned_buffer(schema: Any, value: np.ndarray) -> Any:
    """A `BufferT` of the generated schema that holds a constant's bytes and packs them aligned."""

    class Buffer(schema.BufferT):
        def Pack(self, builder: Any) -> Any:  # noqa: N802 - the schema's name
            size = len(self.data)
            builder.StartVector(1, size, _ALIGNMENT)
            builder.head -= size
            builder.Bytes[builder.head : builder.head + size] = self.data
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    buffer = Buffer()
    buffer.data = np.ascontiguousarray(value).tobytes()
    return buffer
