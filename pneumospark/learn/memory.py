"""What a process does with the memory that it has freed."""

import ctypes

GLIBC = {
    "M_MMAP_MAX": (-4, 0),  # no block is the kernel's own, to be given back as soon as it is freed
    "M_TRIM_THRESHOLD": (-1, 2**31 - 1),  # bytes that may lie free at the heap's end
    "M_ARENA_MAX": (-8, 1),  # one heap for all threads: what one has freed another can take
}
"""Numbers of malloc.h, and values; see mallopt(3)."""


def keep_freed() -> None:
    """Have C's allocator keep freed memory for what comes next, where it is glibc's; elsewhere nothing changes.

    TensorFlow on a CPU allocates its tensors anew in each step, and glibc gives back each that is large: a step of
    `standard` met 460,000 page faults, 40 % of its time on a virtual machine of two cores, and meets 1,000 with this.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in GLIBC.values():
            mallopt(parameter, value)
