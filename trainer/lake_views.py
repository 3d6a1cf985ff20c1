"""SQL for DuckDB: a view per topic over exactly the files that count.

Rule 1. A view names its files: while files are merged, a pattern such as features/*/*.parquet would find rows twice.
Rule 2. Rows that a topic may have twice after a crash are shown once, the first of them, as in Lake.scan.
"""

from __future__ import annotations

from adapters.lake import Lake, identity_of


def views(lake: Lake) -> str:
    """`CREATE OR REPLACE VIEW` for each topic; `-` and `.` of its name become `_`. Raises LakeGapError."""
    return "\n".join(_view(lake, topic) for topic in lake.topics())


def _view(lake: Lake, topic: str) -> str:
    paths = ",\n  ".join(_quoted(str(file.path.resolve())) for file in lake.files(topic))
    name = topic.replace("-", "_").replace(".", "_")
    rows = f"SELECT * FROM read_parquet([\n  {paths}\n], union_by_name = true, hive_partitioning = false)"
    if identity := identity_of(topic):
        same = ", ".join(identity)
        rows += f"\nQUALIFY row_number() OVER (PARTITION BY {same} ORDER BY log_offset) = 1"
    return f"CREATE OR REPLACE VIEW {name} AS {rows};"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
