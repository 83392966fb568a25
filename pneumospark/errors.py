"""Every error that pneumospark raises on purpose: a job that meets one prints its message and stops."""

from collections.abc import Mapping


class PneumosparkError(Exception):
    """The base of all: a message for the person who runs the job, without a traceback."""

    exit_code = 1
    """Of the process: 1 says that something given was wrong, or that what is there does not fit."""


class ConfigError(PneumosparkError):
    """A flag, a TOML key or a value that is unknown, missing or out of range."""


class SourceError(PneumosparkError):
    """A source, a labels table or a file that is missing, empty, unreadable or of an unclear layout."""


class TableError(PneumosparkError):
    """A table whose schema is not the expected one, that holds nothing, or whose rows do not fit the job."""


class LostRowsError(PneumosparkError):
    """The two sides of a count differ: files in against rows out, or rows of a table against rows of an epoch.

    Mostly a store failed for a moment.
    """

    exit_code = 70


class TrainingError(PneumosparkError):
    """A training that went astray: its loss is no number any more."""


class FoundError(PneumosparkError):
    """A run that is done, with everything written, and found what a person should see; `counts` is its summary."""

    def __init__(self, message: str, counts: Mapping[str, object]) -> None:
        super().__init__(message)
        self.counts = counts


class QuarantineError(FoundError):
    """More of a run's files were refused than a setting allows."""

    exit_code = 3


class DriftError(FoundError):
    """A run's images, or their probabilities, are unlike those that the model was validated on."""

    exit_code = 4


class LockError(PneumosparkError):
    """Another run writes into the same table, or has taken it over."""

    exit_code = 5


class LeakError(PneumosparkError):
    """One patient, or one image, in more than one split."""


class BundleError(PneumosparkError):
    """A model bundle that is missing, incomplete, changed after it was written, or made for another image spec."""


class DecodeError(PneumosparkError):
    """One file that is no usable image; `reason` is one of `REASONS`, `detail` says what the decoder said."""

    REASONS = (
        "unreadable",  # the store did not give the bytes
        "empty",  # zero bytes
        "not_an_image",  # no known image format
        "unsupported",  # a known format in a variant that is not handled
        "truncated",  # the bytes end too early
        "corrupt",  # the bytes contradict themselves
        "too_large",  # more bytes or declared pixels than the limit
        "multi_frame",  # an animation or several pages: which one is the X-ray?
        "not_a_chest_radiograph",  # its DICOM header names another modality or body part
        "burned_in_annotation",  # its DICOM header says that text is part of the picture
        "leak",  # equal bytes are in another split than the file's patient
    )

    def __init__(self, reason: str, detail: str) -> None:
        """Raise ValueError for a reason outside the vocabulary."""
        if reason not in self.REASONS:
            raise ValueError(f"unknown reason {reason!r}, expected one of {self.REASONS}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["DecodeError"], tuple[str, str]]:
        """Pickle by both arguments, since errors cross from executor to driver."""
        return type(self), (self.reason, self.detail)
