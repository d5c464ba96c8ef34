"""A backend's wheel made reproducible and portable: same files, same bytes, local dependencies by their plain names.

Pure functions of bytes. Knows the wheel format (PEP 427, PEP 376, "Binary distribution format" and "Core metadata" of
the PyPA specifications), not who built the wheel or where it goes.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildlib.errors import BuildlibError

if TYPE_CHECKING:
    import zipfile

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip can say
LEVEL = 6  # of deflate; zlib's version is part of the toolchain
SIGNATURES = ("RECORD.jws", "RECORD.p7s")  # PEP 427: they sign a RECORD that is not there any more
ALGORITHMS = ("sha256", "sha384", "sha512")  # PEP 427: sha256 or better
DIRECT = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+)\s*(?P<extras>\[[^\]]*\])?\s*@\s*(?P<url>\S+)(?:\s+;\s*(?P<marker>.+))?"  # PEP 508
)
CURE = "the project's build backend made a wheel that installers must not take: fix its configuration or build script"


def normalise(name: str, data: bytes, local: Collection[str], place: str) -> bytes:
    """The wheel with everything taken out that depends on when, where and by whom it was built.

    Entries are sorted (dist-info last, RECORD last of all), dated 1980-01-01, with modes 0644 or 0755, deflated at one
    level; no directory entries, extra fields or comments. A requirement that names a place on a disk for a local
    project (`x[e] @ file:///… ; marker`) becomes the plain `x[e] ; marker`; every other byte of the metadata stays.
    RECORD is written anew. Normalising twice is normalising once.

    Args:
        name: the wheel's file name, which stays.
        data: the wheel.
        local: names of the workspace's projects, normalised (PEP 503).
        place: where the wheel comes from, for errors.

    Raises:
        BuildlibError: it is no wheel, or one that contradicts itself or leads out of the folder it is unpacked in.
    """
    wheel = _read(data, place)
    _check_record(wheel, place)
    _check_name(name, wheel, place)
    files = {path: file for path, file in wheel.files.items() if path not in map(wheel.info, SIGNATURES)}
    metadata = _with_plain_names(files[wheel.info("METADATA")].data, local, place)
    files[wheel.info("METADATA")] = _File(metadata, files[wheel.info("METADATA")].executable)
    order = sorted(files, key=lambda path: (path.startswith(f"{wheel.dist_info}/"), path == wheel.info("RECORD"), path))
    files[wheel.info("RECORD")] = _File(_record(order, files), False)
    return _zip(order, files)


@dataclass(frozen=True)
class _File:
    data: bytes
    executable: bool


@dataclass(frozen=True)
class _Wheel:
    files: Mapping[str, _File]
    dist_info: str

    def info(self, name: str) -> str:
        """The path of a file in the dist-info folder."""
        return f"{self.dist_info}/{name}"


# Reading and checking ------------------------------------------------------------------------------------------------


def _read(data: bytes, place: str) -> _Wheel:
    import io
    import zipfile
    import zlib

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_paths(entries, place)
            files = {entry.filename: _File(archive.read(entry), _is_executable(entry)) for entry in entries}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise BuildlibError(place, f"not a readable zip archive ({error})", CURE) from None
    return _Wheel(files, _dist_info(files, place))


def _is_executable(entry: zipfile.ZipInfo) -> bool:
    return bool(entry.external_attr >> 16 & 0o111)


def _check_paths(entries: list[zipfile.ZipInfo], place: str) -> None:
    seen: set[str] = set()
    for entry in entries:
        path = entry.filename
        # orig_filename: zipfile cuts a name at a NUL, others may not.
        if entry.orig_filename != path or "\\" in path or any(part in ("", ".", "..") for part in path.split("/")):
            raise BuildlibError(place, f"the entry {entry.orig_filename!r} leads out of the wheel", CURE)
        if path in seen:
            raise BuildlibError(place, f"the entry {path!r} is there twice", CURE)
        seen.add(path)


def _dist_info(files: Collection[str], place: str) -> str:
    """The one `*.dist-info` folder, which has METADATA, RECORD and WHEEL."""
    folders = {path.split("/")[0] for path in files if re.match(r"[^/]+\.dist-info/", path)}
    if len(folders) != 1:
        raise BuildlibError(place, f"{len(folders)} *.dist-info folders where there is one in a wheel", CURE)
    folder = folders.pop()
    for name in ("METADATA", "RECORD", "WHEEL"):
        if f"{folder}/{name}" not in files:
            raise BuildlibError(place, f"{folder}/{name} is missing", CURE)
    return folder


def _check_record(wheel: _Wheel, place: str) -> None:
    """RECORD (PEP 376): rows of path, `algorithm=urlsafe base64 without padding`, size; its own row has no hash."""
    import csv
    import io

    text = wheel.files[wheel.info("RECORD")].data
    try:
        # Not splitlines: a file name may have what only Python takes for the end of a line.
        rows = [row for row in csv.reader(io.StringIO(text.decode(), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BuildlibError(place, f"RECORD is not readable ({error})", CURE) from None
    for row in rows:
        if len(row) != 3:
            raise BuildlibError(place, f"RECORD has a row that is not path, hash, size: {','.join(row)!r}", CURE)
        if row[0] != wheel.info("RECORD") and not _agrees(wheel.files.get(row[0]), row[1], row[2]):
            raise BuildlibError(place, f"RECORD does not match the content of {row[0]}", CURE)


def _agrees(file: _File | None, hashed: str, size: str) -> bool:
    if file is None or (size and size != str(len(file.data))):
        return False
    algorithm, _, digest = hashed.partition("=")
    return not hashed or (algorithm in ALGORITHMS and digest.rstrip("=") == _digest(file.data, algorithm))


def _check_name(name: str, wheel: _Wheel, place: str) -> None:
    """The file name, the dist-info folder and METADATA agree on project and version."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        project, version, _, _ = parse_wheel_filename(name)
        said_project, said_version = _said(wheel, place)
        folder_project, _, folder_version = wheel.dist_info.removesuffix(".dist-info").partition("-")
        pairs = {(canonicalize_name(said_project), Version(said_version)), (project, version)}
        pairs.add((canonicalize_name(folder_project), Version(folder_version)))
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise BuildlibError(place, f"{name} is not a wheel's name and version ({error})", CURE) from None
    if len(pairs) != 1:
        said = f"{said_project} {said_version}"
        raise BuildlibError(place, f"{name}, its {wheel.dist_info} and its METADATA ({said}) do not agree", CURE)


def _said(wheel: _Wheel, place: str) -> tuple[str, str]:
    """Name and version as METADATA has them."""
    fields: dict[str, list[str]] = {}
    for field, value, _ in _fields(wheel.files[wheel.info("METADATA")].data):
        fields.setdefault(field, []).append(value)
    try:
        (name,), (version,) = fields["name"], fields["version"]
    except (KeyError, ValueError):
        raise BuildlibError(place, "METADATA has not just one Name and one Version", CURE) from None
    return name, version


# The metadata --------------------------------------------------------------------------------------------------------


def _fields(metadata: bytes) -> Iterator[tuple[str, str, bytes]]:
    """METADATA's header as (field in lower case, value unfolded, bytes of its lines), then the body as ("", "", bytes).

    The pieces joined are the file. It is written like an e-mail: an empty line ends the header, lines that start with a
    blank go on with the field before.
    """
    pieces = re.findall(rb"[^\n]+(?:\n[ \t][^\n]*)*\n?", _header(metadata))
    for piece in pieces:
        field, _, value = piece.decode("utf-8", "surrogateescape").partition(":")
        yield field.strip().lower(), re.sub(r"\r?\n[ \t]+", " ", value).strip(), piece
    yield "", "", metadata[len(_header(metadata)) :]


def _header(metadata: bytes) -> bytes:
    end = re.search(rb"(?:\A|\n)(?=\r?\n)", metadata)
    return metadata[: end.end()] if end else metadata


def _with_plain_names(metadata: bytes, local: Collection[str], place: str) -> bytes:
    """METADATA with local requirements by name; all other bytes as they are."""
    pieces = []
    for field, value, piece in _fields(metadata):
        plain = _plain(value, local, place) if field == "requires-dist" else None
        if plain is not None:
            ending = b"\r\n" if piece.endswith(b"\r\n") else b"\n"
            piece = f"Requires-Dist: {plain}".encode("utf-8", "surrogateescape") + ending
        pieces.append(piece)
    return b"".join(pieces)


def _plain(requirement: str, local: Collection[str], place: str) -> str | None:
    """`x[e] @ file:///… ; marker` as `x[e] ; marker` if x is local and the place is on a disk; None: leave it alone."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = DIRECT.fullmatch(requirement)
    if not found or canonicalize_name(found["name"]) not in local or not _is_on_disk(found["url"]):
        return None
    plain = found["name"] + (found["extras"] or "") + (f" ; {found['marker']}" if found["marker"] else "")
    try:
        Requirement(plain)
    except InvalidRequirement:
        raise BuildlibError(place, f"METADATA has the requirement {requirement!r}, which is none", CURE) from None
    return plain


def _is_on_disk(url: str) -> bool:
    return url.lower().startswith("file:") or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", url)


# Writing -------------------------------------------------------------------------------------------------------------


def _record(order: list[str], files: Mapping[str, _File]) -> bytes:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for path in order[:-1]:
        data = files[path].data
        writer.writerow((path, f"sha256={_digest(data, 'sha256')}", len(data)))
    writer.writerow((order[-1], "", ""))
    return out.getvalue().encode()


def _digest(data: bytes, algorithm: str) -> str:
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")


def _zip(order: list[str], files: Mapping[str, _File]) -> bytes:
    import io
    import zipfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path in order:
            entry = zipfile.ZipInfo(path, EPOCH)
            entry.create_system = 3  # Unix: the attributes are a mode, on macOS too
            entry.external_attr = (0o100755 if files[path].executable else 0o100644) << 16
            archive.writestr(entry, files[path].data, zipfile.ZIP_DEFLATED, LEVEL)
    return out.getvalue()
