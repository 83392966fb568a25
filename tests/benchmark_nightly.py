"""Two nights of score: many new files, then a few more beside them; prints what each read, and seconds by stage.

python tests/benchmark_nightly.py --bundle /models/pneumonia-1 --source FOLDER [--files 10000] [--more 100]

Each night is a spark-submit of its own, as a schedule would start it, so its seconds have the start-up in them.
"""

import argparse
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmark_ingest import repeat
from processes import ROOT, SPARK_HOME, environment

STAGES = ("boot", "start", "listing", "choosing", "engine", "scoring", "quarantine", "counting", "drift", "other")


def night(folder: Path, source: Path, bundle: Path, cores: int, *more: str) -> dict[str, Any]:
    """The summary of a run, and `wall`, its seconds as a clock beside it saw them."""
    flags = {"source": source, "bundle": bundle, "predictions": folder / "p", "quarantine": folder / "q"}
    command = [SPARK_HOME / "bin/spark-submit", "--master", f"local[{cores}]", ROOT / "jobs/score.py", *more]
    command += [part for name, value in flags.items() for part in (f"--{name}", value)]
    started = time.monotonic()
    done = subprocess.run(command, env=environment(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) | {"wall": round(time.monotonic() - started, 1)}


def shown(night: dict[str, Any]) -> str:
    """A night as a line of a table."""
    cells = [night["files"], night["known"], night["images"], round(night["file_bytes"] / 1e6, 1)]
    cells += [night["stages"].get(name, "-") for name in STAGES]
    return " | ".join(map(str, ["", *cells, night["wall"], ""])).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("PNEUMOSPARK_DATA") or ROOT.parent / "shared" / "data")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--more", type=int, default=100)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--source", type=Path, default=data / "originals")
    parser.add_argument("--scratch", type=Path, help="where the files are made (default: the system's own place)")
    given, more = parser.parse_known_args()
    with TemporaryDirectory(dir=given.scratch) as name:
        folder = Path(name)
        everything = repeat(given.source, folder / "everything", given.files + given.more)
        later = sorted(path for path in everything.rglob("*.*") if path.is_file())[-given.more :]
        for path in later:
            target = folder / "later" / path.relative_to(everything)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
        size = sum(path.stat().st_size for path in everything.rglob("*.*")) / 1e9
        print(f"{given.files} files, {size:.2f} GB; load {os.getloadavg()}")
        first = night(folder, everything, given.bundle, given.cores, *more)
        shutil.copytree(folder / "later", everything, dirs_exist_ok=True)
        second = night(folder, everything, given.bundle, given.cores, *more)
        print("| files | known | scored | MB of files read | " + " | ".join(STAGES) + " | wall |")
        print("|---" * (5 + len(STAGES)) + "|")
        print(shown(first), shown(second), sep="\n")
        new = sum(path.stat().st_size for path in (folder / "later").rglob("*.*"))
        assert (first["images"], second["images"], second["known"]) == (given.files, given.more, given.files)
        assert second["file_bytes"] == new, f"the second night read {second['file_bytes']} bytes, of {new} new ones"
        print(json.dumps({"bytes_of_the_new_files": new, "images_per_second": first["images_per_second"]}))


if __name__ == "__main__":
    main()
