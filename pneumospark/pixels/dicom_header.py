"""What is read of a DICOM header, a short list of tags, and whether these say that the file may be kept."""

from typing import NamedTuple

from pydicom import Dataset

from pneumospark.errors import DecodeError

PICTURE_TAGS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "PixelData",
)
"""What makes the picture, and all that a table keeps of a header."""

TAGS = (
    "PatientID",
    "Modality",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "PresentationIntentType",
    *PICTURE_TAGS,
)
"""The promise of privacy: no other tag is read, so no name, birth date or accession number can reach a table or a log.
pydicom adds SpecificCharacterSet (0008,0005) by itself."""

RADIOGRAPHY = ("CR", "DX", "DR", "RG")
"""Modalities (PS3.3, C.7.3.1.1.1) of a radiograph: computed, digital (some devices write DR), scanned film."""
OTHERS = ("CT", "IO", "MG", "MR", "NM", "OT", "PT", "PX", "RF", "SC", "SR", "US", "XA", "XC")
"""Others that a message may quote. Any other value may be anything, a name as well."""
CHEST = ("CHEST", "THORAX", "TORAX", "LUNG")


class DicomHeader(NamedTuple):
    """For the job alone: none of it is written anywhere. None where the tag is absent or empty."""

    patient_id: str | None  # as stored
    modality: str | None  # in upper case, as the body part
    body_part: str | None
    burned_in: bool
    for_processing: bool


def facts_of(header: Dataset) -> DicomHeader:
    """What the header says of the patient and of the subject."""
    words = [text and text.upper() for text in (_text(header, keyword) for keyword in TAGS[1:5])]
    modality, body_part, burned_in, intent = words
    return DicomHeader(_text(header, "PatientID"), modality, body_part, burned_in == "YES", intent == "FOR PROCESSING")


def check(header: DicomHeader, subject: str, burned_in: str) -> None:
    """Raise DecodeError where the header says that this is no chest radiograph, or that text is part of the picture.

    `subject` is "none", "modality", which refuses a detector's raw data, too, or "chest", where the body part counts as
    well. That is not the default: the device takes it from the examination protocol, and it was wrong in 90 of 580
    images (Gueld et al. 2002, doi:10.1117/12.467017). What a header leaves open is no reason to refuse. `burned_in` is
    "quarantine" or "keep".
    """
    if burned_in == "quarantine" and header.burned_in:
        raise DecodeError("burned_in_annotation", "the header says that text, perhaps a name, is part of the picture")
    modality = header.modality
    if subject != "none" and modality and modality not in RADIOGRAPHY:
        known = f"modality {modality}" if modality in OTHERS else "another modality"
        raise DecodeError("not_a_chest_radiograph", f"{known}, expected one of {', '.join(RADIOGRAPHY)}")
    if subject != "none" and header.for_processing:  # tissue may be dark in it, and its scale is the detector's
        raise DecodeError("unsupported", "raw data of a detector: the header says FOR PROCESSING, not FOR PRESENTATION")
    if subject == "chest" and header.body_part and not any(word in header.body_part for word in CHEST):
        raise DecodeError("not_a_chest_radiograph", f"a body part whose name holds none of {', '.join(CHEST)}")


def _text(header: Dataset, keyword: str) -> str | None:
    """A value without the padding of PS3.5, section 6.2; None where absent or empty.

    Read as Latin-1 whatever the character set: that never fails, tells any two ids apart, and ids are ASCII.
    """
    element = header.get_item(keyword)
    stored = element.value if element is not None else b""
    text = stored.decode("latin-1") if isinstance(stored, bytes) else str(stored or "")
    return text.strip(" \0") or None
