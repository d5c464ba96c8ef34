"""The directory store: verified or a miss, whole or not at all, shared by threads and processes."""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from buildlib.store.directory import Blob, DirectoryStore, Store, StoredFile, default_cache, default_store

KEY = "a" * 64


def put(store: Store, key: str, **contents: bytes) -> tuple[StoredFile, ...]:
    files = []
    for name, data in contents.items():
        blob = store.put_blob(data)
        assert blob is not None
        files.append(StoredFile(f"dist/{name}", blob.sha256, blob.size, False))
    assert store.put_result(key, files)
    return tuple(files)


def place(root: Path, kind: str, digest: str) -> Path:
    return root / kind / digest[:2] / digest


def age(path: Path, seconds: int) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_what_is_put_is_got(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    files = put(store, KEY, a=b"one", b=b"")
    other = DirectoryStore(str(tmp_path))
    assert other.get_result(KEY) == files
    assert [other.get_blob(Blob(f.sha256, f.size)) for f in files] == [b"one", b""]


def test_an_executable_file_stays_one(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    blob = store.put_blob(b"#!")
    assert blob is not None
    file = StoredFile("bin/x", blob.sha256, blob.size, True)
    assert store.put_result(KEY, [file]) and store.get_result(KEY) == (file,)


def test_an_unknown_key_or_blob_is_a_miss_and_makes_no_directory(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "none"))
    assert store.get_result(KEY) is None and store.get_blob(Blob(KEY, 1)) is None
    assert store.usage() == (0, 0) and store.prune() == (0, 0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "A" * 64, "a" * 63, "/" + "a" * 63])
def test_a_name_that_is_no_digest_is_never_looked_up(tmp_path: Path, key: str) -> None:
    store = DirectoryStore(str(tmp_path))
    assert store.get_result(key) is None and store.get_blob(Blob(key, 1)) is None and not store.put_result(key, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damage", [b"", b"x", b"One", b"onetwo"])
def test_a_damaged_blob_is_a_miss_and_dropped(tmp_path: Path, damage: bytes) -> None:
    store = DirectoryStore(str(tmp_path))
    (file,) = put(store, KEY, a=b"one")
    path = place(tmp_path, "cas", file.sha256)
    path.write_bytes(damage)
    assert store.get_blob(Blob(file.sha256, 3)) is None
    assert not path.exists() and store.refused == 1
    assert store.put_blob(b"one") and store.get_blob(Blob(file.sha256, 3)) == b"one"


def test_a_blob_of_another_size_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    (file,) = put(store, KEY, a=b"one")
    assert store.get_blob(Blob(file.sha256, 4)) is None


def test_every_flipped_bit_of_a_result_is_a_miss(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    files = put(store, KEY, a=b"one")
    path = place(tmp_path, "ac", KEY)
    good = path.read_bytes()
    for at in range(len(good) - 1):  # the last byte is the newline
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        assert store.get_result(KEY) is None, at
        assert not path.exists(), at
    path.write_bytes(good)
    assert store.get_result(KEY) == files


@pytest.mark.parametrize("text", [b"", b"\xff", b"{}", b"[]\n[]", b"null\nnull\n", b"[" * 100000])
def test_a_malformed_result_is_a_miss_and_dropped(tmp_path: Path, text: bytes) -> None:
    store = DirectoryStore(str(tmp_path))
    put(store, KEY, a=b"one")
    for body in (text, hashlib.sha256(text).hexdigest().encode() + b"\n" + text + b"\n"):
        place(tmp_path, "ac", KEY).write_bytes(body)
        assert store.get_result(KEY) is None
        assert not place(tmp_path, "ac", KEY).exists()


def test_a_result_does_not_answer_to_another_key(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    put(store, KEY, a=b"one")
    other = place(tmp_path, "ac", "b" * 64)
    other.parent.mkdir()
    other.write_bytes(place(tmp_path, "ac", KEY).read_bytes())
    assert store.get_result("b" * 64) is None


@pytest.mark.parametrize("paths", [["/etc/x"], ["../x"], ["a/../../x"], ["a//x"], ["./x"], [""], ["a\\..\\x"], ["x\0"]])
def test_a_path_that_leads_out_is_neither_stored_nor_believed(tmp_path: Path, paths: Sequence[str]) -> None:
    import buildlib.store.directory as room

    store = DirectoryStore(str(tmp_path))
    blob = store.put_blob(b"one")
    assert blob is not None
    files = [StoredFile(path, blob.sha256, blob.size, False) for path in paths]
    assert not store.put_result(KEY, files)
    forged = place(tmp_path, "ac", KEY)
    forged.parent.mkdir(parents=True)
    forged.write_bytes(room._encode(KEY, files))
    assert store.get_result(KEY) is None and not forged.exists()


@pytest.mark.parametrize("paths", [["a", "a"], ["a", "a/b"]])
def test_files_in_each_others_way_are_not_stored(tmp_path: Path, paths: Sequence[str]) -> None:
    store = DirectoryStore(str(tmp_path))
    blob = store.put_blob(b"one")
    assert blob is not None
    assert not store.put_result(KEY, [StoredFile(path, blob.sha256, blob.size, False) for path in paths])


def test_a_result_without_all_its_blobs_is_not_stored_and_not_found(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    (file,) = put(store, KEY, a=b"one")
    place(tmp_path, "cas", file.sha256).unlink()
    assert not store.put_result("b" * 64, [file])
    assert store.get_result(KEY) is None and not place(tmp_path, "ac", KEY).exists()


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o077, 0o600), (0o002, 0o664)):
        root = tmp_path / str(mask)
        before = os.umask(mask)
        try:
            put(DirectoryStore(str(root)), KEY, a=b"one")
        finally:
            os.umask(before)
        assert stat.S_IMODE(place(root, "ac", KEY).stat().st_mode) == mode


def test_a_blob_is_a_file_of_its_own_with_one_link(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    (file,) = put(store, KEY, a=b"one")
    assert place(tmp_path, "cas", file.sha256).stat().st_nlink == 1


def test_a_store_that_cannot_be_written_stores_nothing_and_raises_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = DirectoryStore(str(tmp_path / "file"))  # root cannot be stopped by modes, a file in the way stops everyone
    assert store.put_blob(b"one") is None
    assert not store.put_result(KEY, [])
    assert store.get_result(KEY) is None and store.prune() == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="a file size limit stands for a full disk")
def test_a_full_disk_stores_nothing_and_leaves_no_litter(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from buildlib.store.directory import DirectoryStore\n"
        "store = DirectoryStore(sys.argv[1]); assert store.put_blob(b'x' * 5000) is None; assert store.put_blob(b'x')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert not list((tmp_path / "tmp").iterdir()) and len(list((tmp_path / "cas").rglob("?" * 64))) == 1


def test_a_killed_writers_file_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time; from buildlib.store import directory\n"
        "with directory._temporary(sys.argv[1]): print('ready', flush=True); time.sleep(60)"
    )
    folder = tmp_path / "tmp"
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout and writer.stdout.readline() == "ready\n"
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        DirectoryStore(str(tmp_path)).put_blob(b"one")
        assert [path.name.split("-")[0] for path in folder.iterdir()] == [str(writers[1].pid)]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()


def test_a_writer_whose_file_was_swept_before_it_was_locked_takes_another(tmp_path: Path) -> None:
    import buildlib.store.directory as room

    swept: list[str] = []
    real = fcntl.flock

    def sweep_first(descriptor: int, how: int) -> None:
        if not swept:
            swept.extend(str(path) for path in tmp_path.iterdir())
            os.unlink(swept[0])
        real(descriptor, how)

    fcntl.flock = sweep_first  # type: ignore[assignment]  # the race itself is the seam
    try:
        with room._temporary(str(tmp_path)) as (_, name):
            assert os.path.exists(name) and name not in swept
    finally:
        fcntl.flock = real


def test_many_writers_of_the_same_and_of_different_things_do_no_harm(tmp_path: Path) -> None:
    def work(number: int) -> None:
        store = DirectoryStore(str(tmp_path))
        for step in range(30):
            put(store, key_of(step), a=b"same", b=str(step).encode())
            if step % 10 == number:
                store.prune(0)
            result = store.get_result(key_of(step))
            for file in result or ():
                assert store.get_blob(Blob(file.sha256, file.size)) in (None, b"same", str(step).encode())
            seen.append(store.refused)

    def guarded(number: int) -> None:
        try:
            work(number)
        except AssertionError as error:  # a put that lost a race with a prune is not stored: nothing else may fail
            if "put_result" not in str(error):
                raise

    seen: list[int] = []
    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen and not any(seen)
    assert not list((tmp_path / "tmp").iterdir())


def test_prune_removes_whole_results_by_last_use(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    for number in range(4):
        files = put(store, key_of(number), a=b"%d" % number * 1000)
        for path in (place(tmp_path, "ac", key_of(number)), place(tmp_path, "cas", files[0].sha256)):
            age(path, 1000 - number)
    assert store.get_result(key_of(0)) is not None  # a use
    entries, size = store.usage()
    removed, freed = store.prune(size // 2 + 1)
    assert entries == 4 and removed == 2 and store.usage() == (2, size - freed)
    assert [store.get_result(key_of(number)) is not None for number in range(4)] == [True, False, False, True]
    assert len(list((tmp_path / "cas").rglob("?" * 64))) == 2


def test_prune_keeps_a_blob_that_a_younger_result_needs(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path))
    put(store, key_of(1), a=b"x" * 1000, b=b"y" * 1000)
    young = put(store, key_of(2), a=b"x" * 1000)
    age(place(tmp_path, "ac", key_of(1)), 1000)
    store.prune(store.usage()[1] - 1)
    assert store.get_result(key_of(1)) is None and store.get_result(key_of(2)) == young


def test_prune_within_the_limit_removes_nothing(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path), limit=10_000)
    put(store, KEY, a=b"one")
    assert store.prune() == (0, 0) and store.usage()[0] == 1
    assert store.prune(0)[0] == 1 and store.usage() == (0, 0)


@pytest.mark.parametrize(
    ("environ", "cache", "store"),
    [
        ({"BUILDLIB_CACHE": "/c", "HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/c", "/c/store"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "/x"}, "/x/buildlib", "/x/buildlib/store"),
        ({"HOME": "/h", "XDG_CACHE_HOME": "x"}, "/h/.cache/buildlib", "/h/.cache/buildlib/store"),
        ({"HOME": "/h"}, "/h/.cache/buildlib", "/h/.cache/buildlib/store"),
        ({"HOME": "/h", "BUILDLIB_STORE": "/s"}, "/h/.cache/buildlib", "/s"),
        ({"HOME": "/h", "BUILDLIB_STORE": "off"}, "/h/.cache/buildlib", None),
        ({"HOME": "/h", "BUILDLIB_STORE": ""}, "/h/.cache/buildlib", "/h/.cache/buildlib/store"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="macOS has a cache directory of its own")
def test_where_the_directories_are(environ: dict[str, str], cache: str, store: str | None) -> None:
    assert (default_cache(environ), default_store(environ)) == (cache, store)


def test_the_import_is_cheap() -> None:
    heavy = "hashlib json fcntl tempfile"
    code = f"import sys; import buildlib.store.directory; print(set({heavy!r}.split()) & set(sys.modules))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert out.stdout == "set()\n"


def test_a_store_is_pruned_to_its_limit_once_a_day(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "store"), limit=10)
    store.put_blob(b"x" * 100)
    store.prune_sometimes()
    assert store.usage()[1] == 0
    store.put_blob(b"y" * 100)
    store.prune_sometimes()
    assert store.usage()[1] == 100
    os.utime(tmp_path / "store/pruned", (0, 0))
    store.prune_sometimes()
    assert store.usage()[1] == 0
