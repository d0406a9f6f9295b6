"""Iceberg tables that Weir writes, read by others: icebird (npm) always; pyiceberg and DuckDB's iceberg
extension, which are downloaded, if WEIR_CLIENTS names lake, or all.

tests/system/lake_tool.c writes the tables' metadata by src/lake; a program in tests/system/lake writes
Parquet files, tells the tool of them, and reads the table by a library that knows nothing of Weir.
"""
import os, subprocess, sys

from harness import BUILD, ROOT, beside_others, npm_modules, scratch, served
from kafka_clients import download, downloads, steps_run

HERE = os.path.join(ROOT, "tests", "system", "lake")
TOOL = os.path.join(BUILD, "tests", "system", "lake_tool")
CHANGES = ("append", "evolution", "replace", "delete", "expire")


@beside_others
def test_lake_icebird():
    npm_modules()
    with scratch() as d:
        return steps_run(["node", os.path.join(HERE, "icebird.mjs"), TOOL, d], ("more_files",) + CHANGES)


def python():
    d = downloads("lake")
    wanted = os.path.join(HERE, "requirements.txt")
    if not os.path.exists(os.path.join(d, "bin", "pip")):
        subprocess.run([sys.executable, "-m", "venv", d], check=True, timeout=120)
    download("the lake's readers", [os.path.join(d, "bin", "pip"), "install", "-q", "-r", wanted],
             os.path.join(d, "installed"), wanted)
    return os.path.join(d, "bin", "python")


def test_lake_tables():
    interpreter = python()
    wanted = [t + "_" + c for t in ("plain", "hourly") for c in ("two_files", "time_travel") + CHANGES]
    with scratch() as d:
        return steps_run([interpreter, os.path.join(HERE, "tables.py"), TOOL, d], wanted, timeout=300)


def test_lake_catalog():
    """The REST catalog of weir serve itself."""
    interpreter = python()
    wanted = ("create", "append", "evolution", "conflict", "changes", "partitions", "staged", "duckdb", "drop",
              "tokens")
    with scratch() as d:
        tables = os.path.join(d, "tables")
        os.mkdir(tables)
        with served("--set", "lake.url=file://" + tables) as s:
            return steps_run([interpreter, os.path.join(HERE, "catalog.py"), TOOL, s.url, tables], wanted, timeout=300)
