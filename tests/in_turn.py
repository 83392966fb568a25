"""Jobs one after the other in one session, each as `spark-submit jobs/NAME.py` would end it; arguments as JSON.

spark-submit tests/in_turn.py '[["ingest", "--source", ...], ["extract", ...]]'
"""

import json
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "jobs"))

from pneumospark.io.run import run

if __name__ == "__main__":
    codes = [run(name, partial(import_module(name).main, args)) for name, *args in json.loads(sys.argv[1])]
    print(json.dumps(codes))
