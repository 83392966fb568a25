"""Memory that is freed stays with the process, as long as glibc serves it."""

import platform
import resource
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: no large pages, which would hide it
if {kept}:
    from pneumospark.learn.memory import keep_freed
    keep_freed()
for turn in range(12):
    if turn == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * (48 * 2**20 + turn)  # larger than anything that glibc would keep
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory in ways of its own")
def test_a_large_block_is_not_asked_for_anew() -> None:
    faults = {
        kept: int(subprocess.run([sys.executable, "-c", PROGRAM.format(kept=kept)], stdout=-1, check=True).stdout)
        for kept in (True, False)
    }
    pages = 48 * 2**20 // resource.getpagesize()
    assert faults[True] < pages < faults[False]
