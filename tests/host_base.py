"""A base image for tests, made of this machine's Python: no registry is asked.

Knows how to gather an interpreter, its libraries and a shell into one tar. Files stay at the paths they have here, so
that nothing has to be relocated (run paths, sysconfig, Debian's patched site module). Does not know any engine.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "pydoc_data"}
LEFT_OUT |= {"ensurepip", "site-packages", "dist-packages"}

TOOLS = ["sh", "env", "ls", "cat", "rm", "mkdir", "cp", "mv", "chmod", "ln", "id", "sha256sum", "du", "find", "sleep"]
TOOLS += ["true", "tar", "gzip", "grep", "sed"]

# PEP 599/600: what manylinux wheels may link against, needed or not by the interpreter itself.
MANYLINUX = ["libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libm.so.6", "libnsl.so.1", "libcrypt.so.1"]
MANYLINUX += ["libresolv.so.2", "libanl.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libz.so.1", "libexpat.so.1"]
MANYLINUX += ["libatomic.so.1"]
RESOLVERS = ["libnss_files.so.2", "libnss_dns.so.2"]  # loaded by name at run time: ldd never shows them

ETC = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "hosts: files dns\npasswd: files\ngroup: files\n",
    "etc/os-release": 'ID=debian\nPRETTY_NAME="buildlib test base"\n',
}
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
EMPTY_DIRS = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o755, "app": 0o755, "run": 0o755, "usr/sbin": 0o755}

ASK = """
import json, site, sysconfig
print(json.dumps({
    "stdlib": sysconfig.get_path("stdlib"), "scripts": sysconfig.get_path("scripts"),
    "packages": site.getsitepackages(),
    "wheels": sysconfig.get_config_var("WHEEL_PKG_DIR"),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """Where this machine's Python (never a venv's) keeps its parts; absolute paths."""

    binary: Path
    stdlib: Path
    packages: Path  # where pip will be put: the first directory that site looks into
    scripts: Path
    pip_wheel: Path


@dataclass(frozen=True)
class Entry:
    """One member of the tar: a file here, bytes, a link or (nothing of these) a directory."""

    source: Path | None = None
    data: bytes | None = None
    link: str | None = None
    mode: int = 0o755


def this_interpreter() -> Interpreter:
    binary = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}").resolve()
    told = json.loads(subprocess.run([binary, "-I", "-c", ASK], check=True, capture_output=True, text=True).stdout)
    stdlib = Path(told["stdlib"])
    folders = [stdlib / "ensurepip" / "_bundled", Path(told["wheels"] or "/usr/share/python-wheels")]
    wheels = [wheel for folder in folders for wheel in sorted(folder.glob("pip-*.whl"))]
    if not wheels:
        raise FileNotFoundError(f"no pip wheel in {folders}; on Debian: apt-get install python3-venv")
    return Interpreter(binary, stdlib, Path(told["packages"][0]), Path(told["scripts"]), wheels[0])


def _name(path: str | Path) -> str:
    """The member name of a path here: its folder with links resolved (/lib is usr/lib), its own name kept."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path)).lstrip("/")


def _file(path: str | Path) -> Entry:
    real = Path(os.path.realpath(path))
    return Entry(source=real, mode=0o755 if os.access(real, os.X_OK) else 0o644)


def _stdlib(python: Interpreter) -> dict[str, Entry]:
    found = {}
    for folder, below, names in os.walk(python.stdlib):
        below[:] = [name for name in below if name not in LEFT_OUT and not name.startswith("config-")]
        # Debian and uv mark their Pythons as managed by somebody else: pip would refuse to install.
        for name in set(names) - {"EXTERNALLY-MANAGED"}:
            unwanted = name.endswith((".a", ".exe", ".opt-1.pyc", ".opt-2.pyc")) or name.startswith("_tkinter")
            if not unwanted:
                found[_name(os.path.join(folder, name))] = _file(os.path.join(folder, name))
    return found


def _pip(python: Interpreter, scratch: Path) -> dict[str, Entry]:
    """pip from its wheel, with bytecode: without it every `RUN pip` compiles pip anew, for seconds."""
    with zipfile.ZipFile(python.pip_wheel) as wheel:
        wheel.extractall(scratch)
    options = ["-q", "-x", r"\.exe$", "--invalidation-mode", "unchecked-hash", "-s", str(scratch)]
    where = ["-p", str(python.packages), str(scratch)]
    subprocess.run([str(python.binary), "-I", "-m", "compileall", *options, *where], check=True)
    target = str(python.packages).lstrip("/")
    found = {f"{target}/{path.relative_to(scratch)}": _file(path) for path in scratch.rglob("*") if path.is_file()}
    script = f"#!{python.binary}\nimport sys\nfrom pip._internal.cli.main import main\nsys.exit(main())\n"
    found |= {f"usr/local/bin/{name}": Entry(data=script.encode()) for name in ("pip", "pip3")}
    return found


def _tools() -> dict[str, Entry]:
    found = {}
    for tool in TOOLS:
        path = next((p for p in (f"/usr/bin/{tool}", f"/bin/{tool}") if os.path.exists(p)), None)
        if path:
            found[f"usr/bin/{tool}"] = _file(path)
    return found


def _needed(elves: Iterable[Path]) -> set[str]:
    """Absolute paths of all shared libraries that these files load, as ldd says."""
    lines = subprocess.run(["ldd", *sorted(map(str, elves))], capture_output=True, text=True).stdout
    return set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", lines, re.MULTILINE))


def _libraries(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    elves = [entry.source for entry in entries.values() if entry.source and _is_elf(entry.source)]
    needed = _needed(elves)
    folder = Path(next(path for path in needed if path.endswith("/libc.so.6"))).parent
    extra = {str(folder / name) for name in (*MANYLINUX, *RESOLVERS) if (folder / name).exists()}
    return {_name(path): _file(path) for path in needed | _needed(map(Path, extra)) | extra}


def _is_elf(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"\x7fELF"


def _rest(python: Interpreter) -> dict[str, Entry]:
    found = {name: Entry(data=text.encode(), mode=0o644) for name, text in ETC.items()}
    found |= {name: Entry(mode=mode) for name, mode in EMPTY_DIRS.items()}
    found |= {name: Entry(link=f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64") if os.path.islink(f"/{name}")}
    found |= {f"usr/local/bin/{name}": Entry(link=str(python.binary)) for name in ("python", "python3")}
    return found | ({AUTHORITIES.lstrip("/"): _file(AUTHORITIES)} if os.path.exists(AUTHORITIES) else {})


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    whole = dict(entries)
    for name in entries:
        for parent in map(str, list(Path(name).parents)[:-1]):
            whole.setdefault(parent, Entry())
    return whole


def _member(name: str, entry: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.mode = entry.mode
    if entry.link is not None:
        member.type, member.linkname = tarfile.SYMTYPE, entry.link
    elif entry.source is None and entry.data is None:
        member.type = tarfile.DIRTYPE
    else:
        member.size = len(entry.data) if entry.data is not None else os.path.getsize(str(entry.source))
        # The bytecode beside a module names the module's time.
        member.mtime = int(os.path.getmtime(entry.source)) if entry.source else 0
    return member


def write(path: Path) -> Interpreter:
    """Write the root file system as a tar to `path` (about 100 MB, a few seconds); `path`.pip is used on the way."""
    python, scratch = this_interpreter(), path.with_suffix(".pip")
    entries = _stdlib(python) | _pip(python, scratch) | _tools() | {_name(python.binary): _file(python.binary)}
    entries |= _libraries(entries)
    entries = _with_parents(entries | _rest(python))
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(entries):
            entry = entries[name]
            if entry.source is None:
                tar.addfile(_member(name, entry), io.BytesIO(entry.data or b""))
                continue
            with entry.source.open("rb") as stream:
                tar.addfile(_member(name, entry), stream)
    shutil.rmtree(scratch)
    return python


def changes(python: Interpreter) -> list[str]:
    """Dockerfile instructions that go with the tar when an engine imports it."""
    path = ":".join(dict.fromkeys(["/usr/local/bin", str(python.scripts), "/usr/bin"]))
    quiet = "PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore"
    # Whom this machine trusts, pip in a container must trust too: a company's proxy signs with an authority of its own.
    trust = f"PIP_CERT={AUTHORITIES} SSL_CERT_FILE={AUTHORITIES}" if os.path.exists(AUTHORITIES) else ""
    return [f"ENV PATH={path} {quiet} {trust}".rstrip(), 'CMD ["python3"]']
