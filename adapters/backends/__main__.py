"""`python -m adapters.backends FOLDER [ENV_FILE]`: a Kafka and a Redis until SIGTERM or Ctrl-C, addresses in ENV_FILE.

Rule 1. ENV_FILE holds lines NAME=value for the servers that answer now; it is removed in the end.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from adapters import backends


def main(folder: Path, env_file: Path) -> int:
    """Run both; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            backends.redis(folder / "redis", say=print) as store,
            backends.kafka(folder / "kafka", say=print) as broker,
        ):
            env_file.write_text(f"FRAUD_KAFKA_BOOTSTRAP={broker.address}\nFRAUD_REDIS_URL={store.address}\n")
            print(f"{broker.description}\n{store.description}\n{env_file.read_text()}Ctrl-C ends both", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        return 0
    except (backends.BackendMissingError, backends.BackendFailedError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        env_file.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit("usage: python -m adapters.backends FOLDER [ENV_FILE]")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else Path(sys.argv[1], "backends.env"))))
