"""What every result file shares: a typed record or table, its place below `results/`, a schema version of its own."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from robbertje_lib.experiment import artefacts
from robbertje_lib.experiment.errors import UserError
from robbertje_lib.experiment.run import Run

Interval = tuple[float, float]  # low, high; at 95 % where nothing else is said


class Record(BaseModel):
    """A part of a result file. Immutable; unknown and missing fields, other types and NaN are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Placed:
    """What lies below `results/`. Subclasses say where, such as `scores/{task}.json`, and their schema's version."""

    where: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def path(cls, run: Run, **names: str) -> Path:
        """The file's place in the run. names: what stands in braces in `where`."""
        return run.paths.result(*cls.where.format(**names).split("/"))

    @classmethod
    def exists(cls, run: Run, **names: str) -> bool:
        return cls.path(run, **names).is_file()


class ResultFile(Record, Placed):
    """A result file in JSON."""

    @classmethod
    def read(cls, run: Run, **names: str) -> Self:
        """Read the file. Raises `UserError` if it is missing, of another schema version, or not what it should be."""
        return cls.load(cls.path(run, **names))

    @classmethod
    def load(cls, path: Path) -> Self:
        """`read` for a file wherever it lies."""
        try:
            content = artefacts.read_json(path, cls.version)
            # Through JSON once more: strict validation takes a list for a tuple there, and nowhere else.
            return cls.model_validate_json(json.dumps({k: v for k, v in content.items() if k != "schema_version"}))
        except ValidationError as error:
            raise UserError(f"{path} is damaged ({_first_fault(error)}); {artefacts.ANEW}") from None

    def write(self, run: Run, **names: str) -> None:
        """Write the file whole or not at all. names: what stands in braces in `where`."""
        self.save(self.path(run, **names))

    def save(self, path: Path) -> None:
        """`write` for a file wherever it lies."""
        artefacts.write_json(path, self.model_dump(mode="json"), self.version)


class ResultTable(Placed):
    """A result file in parquet, a row an example. Subclasses have `columns`, or `schemas` if types vary by task."""

    columns: ClassVar[Mapping[str, pa.DataType]]
    schemas: ClassVar[Sequence[pa.Schema]]

    def __init_subclass__(cls) -> None:
        if "columns" in vars(cls):
            cls.schemas = (pa.schema(cls.columns),)

    @classmethod
    def read(cls, run: Run, **names: str) -> pa.Table:
        """Read the rows. Raises `UserError` if the file is missing, of another version, or has other columns."""
        path = cls.path(run, **names)
        table = artefacts.read_parquet(path)
        version = (table.schema.metadata or {}).get(b"schema_version", b"none").decode()
        if version != str(cls.version):
            raise UserError(f"{path}: schema version {version} where {cls.version} is needed; {artefacts.ANEW}")
        if not any(table.schema.equals(schema) for schema in cls.schemas):
            raise UserError(f"{path} is damaged (its columns are {', '.join(table.column_names)}); {artefacts.ANEW}")
        return table

    @classmethod
    def write(cls, run: Run, table: pa.Table, **names: str) -> None:
        """Write the rows whole or not at all. Raises `ValueError` for other columns than a schema of the file has."""
        schema = next((s for s in cls.schemas if _fits(table, s)), None)
        if schema is None:
            raise ValueError(f"{cls.where}: columns {table.schema} where {cls.schemas[0]} are needed")
        rows = table.select(schema.names).cast(schema)
        artefacts.write_parquet(
            cls.path(run, **names), rows.replace_schema_metadata({"schema_version": str(cls.version)})
        )


def _fits(table: pa.Table, schema: pa.Schema) -> bool:
    if set(table.column_names) != set(schema.names):
        return False
    try:
        table.select(schema.names).cast(schema)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return False
    return True


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc'])) or 'the file'}: {fault['msg']}"
