"""Files on a store: names as they are, what is not there, and how URIs, paths and keys of each store map."""

import os
import pickle
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumospark.errors import ConfigError, DecodeError, SourceError
from pneumospark.io import files
from pneumospark.io.dataset import _petastorm_url
from pneumospark.io.files import Entry, Store, canonical, plain, resolve, scheme_of

STORE = Store()
NAMES = (
    "two words.png",
    " lead and trail ",
    "100%.png",
    "%20.png",
    "a*b.png",
    "[1].png",
    "{a,b}.png",
    "#1.png",
    "why?.png",
    "it's.png",
    'so "called".png',
    "räntgen.png",
    "rontgen-\u0308.png",
    "胸部.png",
    "صورة.png",
    "\U0001fa7b.png",
    "_hidden.png",
    ".hidden.png",
    "~.png",
    "a\\b.png",
    "a:b.png",
    "s3a::x.png",
    "-n",
    "line\nbreak.png",
)
names = st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)


def listed(folder: Path) -> dict[str, Entry]:
    """Entries by name below the folder's URI."""
    uri = canonical(str(folder))
    return {entry.path.removeprefix(f"{uri}/"): entry for entry in STORE.list_folder(uri)}


def test_names_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    found = listed(tmp_path)
    assert sorted(found) == sorted(NAMES)
    for name, entry in found.items():
        assert STORE.read(entry.path) == name.encode()
        assert STORE.exists(entry.path) and resolve(entry.path, STORE, "--source") == entry.path
        assert list(STORE.list_folder(entry.path)) == [entry]
    assert STORE.first_names(canonical(str(tmp_path)), bool) == sorted(NAMES)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(names, names)
def test_any_name_of_a_folder_and_of_a_file(tmp_path: Path, folder: str, name: str) -> None:
    below = tmp_path / f"d{folder}"
    below.mkdir(exist_ok=True)
    (below / name).write_bytes(b"x")
    (entry,) = [entry for key, entry in listed(below).items() if key == name]
    assert STORE.read(entry.path) == b"x"
    (below / name).unlink()


def test_an_entry_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.png").write_bytes(b"12345")
    (tmp_path / "empty.png").touch()
    os.utime(tmp_path / "a.png", ns=(0, 1_700_000_000_123_456_789))
    found = listed(tmp_path)
    assert set(found) == {"sub", "a.png", "empty.png"} and found["sub"].is_folder
    path = f"file://{tmp_path}/a.png"
    assert found["a.png"] == Entry(path, False, 5, datetime(2023, 11, 14, 22, 13, 20, 123457, UTC))
    assert found["empty.png"].length == 0


def test_an_empty_folder_has_no_entries(tmp_path: Path) -> None:
    assert listed(tmp_path) == {} and STORE.first_names(f"file://{tmp_path}", bool) == []


def test_the_first_names_are_bounded_and_sorted(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / name).touch()
    assert STORE.first_names(f"file://{tmp_path}", lambda name: False, 2) == ["a", "b"]
    assert STORE.first_names(f"file://{tmp_path}", lambda name: name == "c", 1) == ["a", "c"]


def test_an_object_that_is_refused_is_one_file_where_the_keys_are_for_a_part_of_the_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An archived object, or one under another key: S3 says "forbidden", to a question about the bucket as well."""
    asked: list[str] = []

    def answered(self: Store, uri: str) -> bool:
        asked.append(uri)
        if uri == "s3a://b":
            raise SourceError("forbidden")
        return True

    def forbidden(self: Store, uri: str) -> bytes:
        raise PermissionError("The operation is not valid for the object's storage class")

    monkeypatch.setattr(Store, "exists", answered)
    monkeypatch.setattr(Store, "fetch", forbidden)
    with pytest.raises(DecodeError, match="unreadable: PermissionError: The operation"):
        STORE.read("s3a://b/x/archived.png")
    assert asked == ["s3a://b/x"]


def test_links_lead_to_what_they_name(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for name in ("folder", "file", "nothing"):
        (tmp_path / f"to {name}").symlink_to(tmp_path / name)
    found = listed(tmp_path)
    assert found["to folder"].is_folder and not found["to file"].is_folder
    assert STORE.read(found["to file"].path) == b"x"
    broken = found["to nothing"]  # it must be a row: reading it then says why
    assert not broken.is_folder
    with pytest.raises(DecodeError, match=r"unreadable: FileNotFoundError: No such file or directory"):
        STORE.read(broken.path)


def test_what_is_taken_away_while_it_is_listed_is_no_error(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    listing = STORE.list_folder(f"file://{tmp_path}")
    first = next(iter(listing)).path.removeprefix(f"file://{tmp_path}/")
    for name in set("abc") - {first}:
        (tmp_path / name).unlink()
    assert list(listing) == []


def test_a_name_that_no_table_can_hold_is_an_error(tmp_path: Path) -> None:
    (Path(os.fsencode(tmp_path).decode()) / os.fsdecode(b"latin-\xe4.png")).touch()
    with pytest.raises(SourceError, match=r"latin-\\udce4\.png': the name is not valid UTF-8; rename the file"):
        listed(tmp_path)


@pytest.mark.parametrize("name", ["absent.png", "folder"])
def test_bytes_that_are_not_given_are_unreadable(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DecodeError, match=r"unreadable: \w+Error: (No such file|Is a directory)") as raised:
        STORE.read(f"file://{tmp_path}/{name}")
    assert raised.value.reason == "unreadable"
    assert str(tmp_path) not in raised.value.detail  # the row has the path; a detail groups rows


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch(0o000)
    with pytest.raises(DecodeError, match="unreadable: PermissionError: Permission denied"):
        STORE.read(f"file://{tmp_path}/a.png")


def test_a_source_that_is_not_there_is_named_with_its_flag(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"--source file:///.*/no where%: expected a folder or a file, found nothing"):
        resolve(f"{tmp_path}/no where%/", STORE, "--source")
    with pytest.raises(SourceError, match=r"--labels gopher://x/y: no driver for gopher:// on this machine"):
        resolve("gopher://x/y", STORE, "--labels")
    with pytest.raises(SourceError, match=r"--source hdfs:///x: expected hdfs://host:port/\.\.\. or an fs\.defaultFS"):
        resolve("hdfs:///x", STORE, "--source")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/new/folder/a.txt"
    with pytest.raises(KeyError), STORE.open_for_write(uri) as file:
        file.write(b"half")
        raise KeyError
    assert not STORE.exists(uri)
    with STORE.open_for_write(uri) as file:
        file.write(b"whole")
    assert STORE.fetch(uri) == STORE.read(uri) == b"whole"


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"file/below: cannot be written: \w+Error"):
        STORE.put(f"file://{tmp_path}/file/below", b"")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/x rays/", "file:///data/x rays"),
        ("file:/data/x", "file:///data/x"),
        ("FILE:/data/x", "file:///data/x"),
        ("/data/hdfs:/x", "file:///data/hdfs:/x"),
        ("file:///data/x/", "file:///data/x"),
        ("FILE:///data//x", "file:///data/x"),
        ("/", "file:///"),
        ("file:///", "file:///"),
        ("/data/100%/#1?", "file:///data/100%/#1?"),
        ("s3a://bucket/", "s3a://bucket"),
        ("S3A://bucket/Key//", "s3a://bucket/Key"),
        ("hdfs://host:8020/", "hdfs://host:8020"),
        ("hdfs:///x/", "hdfs:///x"),
        ("hdfs:///", "hdfs:///"),
    ],
)
def test_the_canonical_form(uri: str, expected: str) -> None:
    assert canonical(uri) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize("uri", ["hdfs:/tables/x", "s3a:/bucket/x", "HDFS:/x"])
def test_one_slash_behind_a_scheme_is_no_folder_of_this_machine(uri: str) -> None:
    with pytest.raises(ConfigError, match=rf"{uri}: expected two slashes behind the scheme, as in \w+://HOST/FOLDER"):
        canonical(uri)


def test_plain_paths_are_of_the_working_directory_and_of_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    assert canonical("x/") == canonical("file:x") == f"file://{tmp_path}/x"
    assert canonical("~/x") == "file:///home/someone/x"


@settings(deadline=None)
@given(names)
def test_canonical_is_its_own_canonical_form(name: str) -> None:
    for uri in (f"/data/{name}", f"s3a://bucket/{name}", f"hdfs://host/{name}/"):
        assert canonical(canonical(uri)) == canonical(uri)


@pytest.mark.parametrize(
    ("uri", "scheme", "path"),
    [
        ("/data/a b", "file", "/data/a b"),
        ("file:///data/a%20b", "file", "/data/a%20b"),
        ("s3a://bucket/key/#1.png", "s3a", "bucket/key/#1.png"),
        ("S3A://bucket", "s3a", "bucket"),
        ("hdfs://host:8020/x/y?", "hdfs", "/x/y?"),
        ("hdfs:///x", "hdfs", "/x"),
        ("hdfs://host", "hdfs", "/"),
    ],
)
def test_what_a_store_calls_a_file(uri: str, scheme: str, path: str) -> None:
    assert (scheme_of(uri), plain(uri)) == (scheme, path)


@pytest.mark.parametrize(
    ("name", "folder", "expected"),
    [
        ("bucket/x/a b.png", "s3a://bucket/x", "s3a://bucket/x/a b.png"),
        ("bucket/x/", "s3a://bucket", "s3a://bucket/x"),
        ("/x/a%.png", "hdfs://host:8020/x", "hdfs://host:8020/x/a%.png"),
        ("hdfs://other/x/a.png", "hdfs://host:8020/x", "hdfs://host:8020/x/a.png"),
        ("/x/a.png", "hdfs:///x", "hdfs:///x/a.png"),
        ("/data/a.png", "file:///data", "file:///data/a.png"),
    ],
)
def test_an_entry_keeps_scheme_and_authority_of_its_folder(name: str, folder: str, expected: str) -> None:
    assert files._uri(name, folder) == expected


def test_petastorm_calls_s3a_s3() -> None:
    assert _petastorm_url("s3a://b/k") == _petastorm_url("s3n://b/k") == "s3://b/k"
    assert _petastorm_url("hdfs://host/k") == "hdfs://host/k"


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"mtime": 1.5}, datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
        ({"modification_time": 1_700_000_000_123}, datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)),
        ({"LastModified": datetime(2026, 1, 2, tzinfo=UTC), "mtime": None}, datetime(2026, 1, 2, tzinfo=UTC)),
        ({"LastModified": None}, datetime(1970, 1, 1, tzinfo=UTC)),
    ],
)
def test_times_of_each_store_are_utc(info: dict[str, object], expected: datetime) -> None:
    assert files.modified(info) == expected


def test_a_store_travels_and_keeps_its_secrets_out_of_logs() -> None:
    store = Store({"s3a": {"key": "k", "secret": "hush"}})
    assert pickle.loads(pickle.dumps(store)) == store
    assert "hush" not in repr(store)


def test_a_scratch_folder_is_new_each_time() -> None:
    one, two = files.scratch_folder(), files.scratch_folder()
    assert one != two and one.is_dir() and list(one.iterdir()) == []
