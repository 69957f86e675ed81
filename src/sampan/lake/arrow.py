"""Frames as uncompressed Arrow IPC files: written once, mapped by every reader without a copy."""

from pathlib import Path
from typing import Any

from sampan.base.errors import Damaged


def open_ipc(path: Path) -> Any:
    """The table of an Arrow IPC file, mapped into memory. Raises Damaged if it is not one."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_file(source).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise Damaged(f"Open {path}", str(error), "Run the flow again: it builds what is not there.") from error


def as_table(data: Any) -> Any:
    """A pyarrow Table of a table, a record batch, a reader, or anything with ``__arrow_c_stream__``."""
    import pyarrow as pa

    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, pa.RecordBatchReader):
        return data.read_all()
    return pa.table(data)
