"""The size of a state of scheduled hunts, and the time to read, prune and write it: ``-m benchmarks.state_size``."""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from pathlib import Path

from keytrail.state import MINUTE, Read, State, Told, load_state

DAY, NOW = 20_000, 20_000 * 86_400_000


def main() -> None:
    """Measure, and print a line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.state_size")
    parser.add_argument("--files", type=int, default=300_000)
    parser.add_argument("--incidents", type=int, default=10_000)
    given = parser.parse_args()
    names = (hashlib.sha256(b"%d" % number).hexdigest()[:32] for number in range(given.files))
    files = {name: Read(NOW // MINUTE - turn, NOW // MINUTE - turn + 5, DAY) for turn, name in enumerate(names)}
    incidents = [
        Told("a" * 36, (f"arn:aws:iam::111122223333:role/{turn}",), NOW, NOW, DAY) for turn in range(given.incidents)
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        begin = time.process_time()
        State(("/logs",), NOW, files, incidents).save(path)
        written = time.process_time()
        state = load_state(path, ["/logs"])
        read = time.process_time()
        state.prune(DAY)
        pruned = time.process_time()
        size = path.stat().st_size
    print(
        f"{given.files:,} files, {given.incidents:,} incidents: {size / 1e6:.1f} MB, "
        f"written in {written - begin:.1f} s, read in {read - written:.1f} s, pruned in {pruned - read:.1f} s of CPU, "
        f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
