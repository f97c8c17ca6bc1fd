"""Data that a Python program holds in memory: written into a file that the tasks read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from formwright.errors import UserError
from formwright.files import atomic_path, write_atomically

if TYPE_CHECKING:
    import pandas as pd

#: What data from memory is called in a folder.
NAMES = ("data.npz", "data.parquet", "data.jsonl")
EXPECTED = (
    "a path, a DataFrame, or a pair of samples and their classes (pictures (n, height, width) or with channels, series "
    "(n, steps), or texts) is expected"
)


def is_in_memory(data: Any) -> bool:
    """Whether data is neither a path nor none."""
    return data is not None and not isinstance(data, str | Path)


def write_data(data: Any, folder: Path) -> Path:
    """Write data into a file of ``folder``, and return which.

    A DataFrame becomes a table: with times (as its index or in a column) or with columns of numbers only, beside the
    classes, a table of series, otherwise one of texts. A pair ``(samples, classes)`` are pictures, series or texts with
    their classes.

    Raises:
        UserError: it is something else.
    """
    import pandas as pd

    if isinstance(data, pd.DataFrame):
        return _write_table(data, folder)
    if isinstance(data, tuple | list) and len(data) == 2 and not isinstance(data[0], str):
        samples, classes = data
        if not (_is_sequence(samples) and _is_sequence(classes)):
            raise UserError(f"Data of {_kind(data)} was given; {EXPECTED}.")
        if len(samples) != len(classes):
            raise UserError(f"{len(samples)} samples and {len(classes)} classes were given; give one class for each.")
        return _write_pair(samples, np.asarray(classes), folder)
    raise UserError(f"Data of {_kind(data)} was given; {EXPECTED}.")


def _write_pair(samples: Any, classes: NDArray[Any], folder: Path) -> Path:
    if len(samples) and all(isinstance(one, str) for one in samples):
        lines = (json.dumps({"text": text, "label": str(label)}) for text, label in zip(samples, classes, strict=True))
        path = folder / "data.jsonl"
        write_atomically(path, "".join(f"{line}\n" for line in lines))
        return path
    try:
        array = np.asarray(samples)
    except ValueError as error:
        raise UserError(f"Samples that are not of one shape were given ({error}); {EXPECTED}.") from None
    if array.ndim == 2 and array.dtype.kind in "buif":
        import pandas as pd

        table = pd.DataFrame(array, columns=[f"t{step}" for step in range(array.shape[1])])
        return _write_table(table.assign(label=classes.astype(str)), folder)
    if array.ndim not in (3, 4) or array.dtype.kind not in "buif":
        raise UserError(f"Samples of shape {array.shape} and type {array.dtype} were given; {EXPECTED}.")
    path = folder / "data.npz"
    labels = classes.astype(str) if classes.dtype.kind == "O" else classes
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, images=array, labels=labels)
    return path


def _write_table(table: pd.DataFrame, folder: Path) -> Path:
    import pandas as pd

    if not isinstance(table.index, pd.RangeIndex) and (
        isinstance(table.index, pd.DatetimeIndex) or table.index.name is not None
    ):
        table = table.reset_index(names=table.index.name or "time")
    table = table.rename(columns=str)
    numbers = sum(pd.api.types.is_numeric_dtype(kind) for kind in table.dtypes)
    has_times = any(pd.api.types.is_datetime64_any_dtype(kind) for kind in table.dtypes)
    if has_times or numbers >= max(len(table.columns) - 1, 1):
        path = folder / "data.parquet"
        with atomic_path(path) as temporary:
            table.to_parquet(temporary, index=False)
        return path
    path = folder / "data.jsonl"
    write_atomically(path, table.to_json(orient="records", lines=True, force_ascii=False))
    return path


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not isinstance(value, str | bytes | dict)


def _kind(data: Any) -> str:
    return f"type {type(data).__name__}"
