"""Makes a virtual environment from a hash-pinned lock, with this project installed editable. Bare Python, no package.

Run as a script: `bootstrap.py ROOT VENV LOCK COMMAND`. ROOT is absolute, VENV and LOCK are relative to it, COMMAND is
what the user typed (for messages). Knows: what was made from what, and how pip fails. Does not know which tool or
tests the environment is for, and imports nothing of buildlib.

`VENV/.made/` remembers what an environment was made from: `root`, `lock`, `project` hold the path and the two files'
contents. `root` is written first (the environment is ours), `lock` once its packages are in, `project` last: a killed
run leaves no complete memory, and the next one makes what is missing. `pip` in there is the unpacked pip, outside of
the environment's own packages.
"""

import contextlib
import errno
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass

# What a user's pip settings must not redirect. Index, proxy, certificate and cache settings stay theirs.
FOREIGN_PIP = {f"PIP_{name}" for name in ("CONSTRAINT", "DRY_RUN", "EDITABLE", "LOG", "NO_BINARY", "PREFIX", "PYTHON")}
FOREIGN_PIP |= {f"PIP_{name}" for name in ("REPORT", "REQUIREMENT", "ROOT", "TARGET", "USER")}

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EROFS, errno.EACCES, errno.EPERM)


class MakeError(Exception):
    """One line for the user: cause and cure."""


@dataclass(frozen=True)
class Job:
    """What to make, and how the user asked for it."""

    root: str
    venv: str
    lock: str
    command: str

    def path(self, *parts: str) -> str:
        """The absolute path of something inside the environment."""
        return os.path.join(self.root, self.venv, *parts)

    def say(self, text: str) -> None:
        """Print one line on stderr, led by the command's name."""
        print(f"{self.command.removeprefix('./')}: {' '.join(text.split())}", file=sys.stderr, flush=True)


def read(path: str) -> bytes | None:
    """The content of a file, None if there is none."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(path: str, content: bytes) -> None:
    """Put a file in place whole."""
    with open(path + ".new", "wb") as file:
        file.write(content)
    os.replace(path + ".new", path)


def missing(job: Job, lock: bytes, project: bytes) -> str:
    """What is still to do: `all`, `project` (only the editable install) or nothing (``""``)."""
    sound = os.access(job.path("bin", "python"), os.X_OK) and read(job.path(".made", "root")) == root_line(job)
    if not sound or read(job.path(".made", "lock")) != lock:
        return "all"
    return "" if read(job.path(".made", "project")) == project else "project"


def root_line(job: Job) -> bytes:
    """The root as the shell reads it: one line."""
    return os.fsencode(job.root) + b"\n"


@contextlib.contextmanager
def one_at_a_time(job: Job) -> Iterator[int]:
    """Hold a lock on the root directory itself: no file of its own, no stale lock. Yields its descriptor."""
    descriptor = os.open(job.root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            job.say(f"waiting for another run that makes {job.venv} …")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system without directory locks: better unguarded than not at all
        yield descriptor
    finally:
        os.close(descriptor)


def start_afresh(job: Job) -> None:
    """Leave an empty environment directory that is marked as ours. A directory that somebody else made is refused."""
    top = job.path()
    ours = os.path.isdir(job.path(".made")) and not os.path.islink(top)
    if os.path.lexists(top) and not ours and (not os.path.isdir(top) or os.listdir(top)):
        raise MakeError(
            f"{job.venv} was not made by {job.command}; move it away (mv {job.venv} {job.venv}.old), "
            f"then run {job.command} again"
        )
    if ours:
        forget_all_but_the_mark(job)
    os.makedirs(job.path(".made"), exist_ok=True)
    write(job.path(".made", "root"), root_line(job))


def forget_all_but_the_mark(job: Job) -> None:
    """Empty the directory; `.made` stays so that a run killed in here still finds it ours."""
    for entry in [*os.scandir(job.path(".made")), *os.scandir(job.path())]:
        if entry.path == job.path(".made"):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def make_all(job: Job, lock: bytes, held: int) -> None:
    """Make the environment and install what the lock names, without pip itself: it only slows the tool's start."""
    start_afresh(job)
    job.say(f"making {job.venv} (once; up to a minute) …")
    # The real file, never `python3`: when the system moves to another minor version the link dangles and is noticed.
    base = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    run(job, [base, "-I", "-m", "venv", "--without-pip", job.path()], held)
    # pip reads the copy: a lock that is edited meanwhile differs from what is remembered.
    write(job.path(".made", "lock.part"), lock)
    # Bytecode appears on first import, only for what is used: that halves the time of pip.
    pip(job, held, "--require-hashes", "--only-binary", ":all:", "--no-compile", "-r", job.path(".made", "lock.part"))
    os.replace(job.path(".made", "lock.part"), job.path(".made", "lock"))


def install_project(job: Job, project: bytes, held: int) -> None:
    """Install the root's own package editable. Needs no network: its build backend is in the lock."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(job.path(".made", "project"))
    pip(job, held, "--no-index", "--no-build-isolation", "--no-compile", "-e", job.root)
    write(job.path(".made", "project"), project)


def pip(job: Job, held: int, *args: str) -> None:
    """Run the pip that comes with Python, not installed but beside what it installs."""
    if not os.path.isdir(job.path(".made", "pip")):
        shutil.unpack_archive(bundled_pip(), job.path(".made", "pip.part"), "zip")
        os.rename(job.path(".made", "pip.part", "pip"), job.path(".made", "pip"))
    # Only the log tells why a download failed; with a log, a build backend's words are in there and nowhere else.
    log = "" if "--no-index" in args else job.path(".made", "pip.log")
    options = ["--no-deps", "--no-input", "--disable-pip-version-check", "--quiet", *(["--log", log] if log else [])]
    run(job, [job.path("bin", "python"), "-I", job.path(".made", "pip"), "install", *options, *args], held, log)
    if log:
        os.unlink(log)


def bundled_pip() -> str:
    """The path of the pip wheel that ensurepip would install."""
    import ensurepip

    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
    wheels = [wheel for folder in folders if folder for wheel in glob.glob(f"{glob.escape(folder)}/pip-*.whl")]
    if not wheels:
        raise MakeError(f"{sys.executable} has no bundled pip; run: apt-get install python3-venv (Debian, Ubuntu)")
    return wheels[0]


def clean_environ() -> dict[str, str]:
    """The user's environment without what changes where pip installs or how Python starts."""
    return {key: value for key, value in os.environ.items() if key not in FOREIGN_PIP and not key.startswith("PYTHON")}


def run(job: Job, argv: list[str], held: int, log: str = "") -> None:
    """Run a step quietly; a failure becomes one line.

    The child inherits the lock: if this process is killed, the next run waits until the orphan has stopped writing.
    """
    child = subprocess.Popen(
        argv,
        env=clean_environ(),
        pass_fds=(held,),
        cwd=job.root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _ = child.communicate()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    if child.returncode:
        logged = read(log) if log else None
        with contextlib.suppress(OSError):
            write(job.path(".made", "output"), (logged or b"") + output)
        raise MakeError(explain(job, output.decode(errors="replace"), (logged or b"").decode(errors="replace")))


def explain(job: Job, output: str, log: str) -> str:
    """Cause and cure of a failed step, from what it printed and what it logged (the log also has lines of success)."""
    again = f"then run {job.command} again"
    found = re.search(r"\[Errno (\d+)\] ([^:\n]+)", output)
    if found and int(found[1]) in (*FULL, *FORBIDDEN):
        return explain_os_error(job, int(found[1]), found[2])
    if "DO NOT MATCH THE HASHES" in output:
        name = re.search(r"^\s+([\w.\[\]-]+==\S+)", output, re.MULTILINE)
        return (
            f"{job.lock} has another hash for {name[1] if name else 'a package'} than the download; "
            f"restore the lock (git checkout {job.lock}) or use an index that serves the original, {again}"
        )
    if "(from versions: none)" in output or network_cause(output):
        return (
            f"cannot download the packages ({network_cause(log) or 'the index does not have them'}): "
            f"check the network or PIP_INDEX_URL, {again}"
        )
    return f"cannot make {job.venv}: {last_words(output)}; the whole output is {job.venv}/.made/output, {again}"


def last_words(output: str) -> str:
    """The line that says most: pip's own error, the last line of a traceback, else the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()] or ["no output"]
    if "[end of output]" in lines[1:]:
        return lines[lines.index("[end of output]") - 1]
    if "ERROR: Exception:" in lines:
        return lines[-1]
    return next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), lines[-1])


def network_cause(text: str) -> str:
    """The words of a network failure in pip's output or log, ``""`` if there is none."""
    causes = (
        r"Connection refused|Connection reset by peer|Network is unreachable|No route to host|timed out"
        r"|Name or service not known|Temporary failure in name resolution|nodename nor servname provided[^'\")]*"
        r"|CERTIFICATE_VERIFY_FAILED|Cannot connect to proxy|Tunnel connection failed: [^'\")]+"
        r"|\b(?:401|403|407|429|50[0234]) (?:Client|Server) Error"
    )
    found = re.search(causes, text)
    return found[0] if found else ""


def explain_os_error(job: Job, number: int, text: str) -> str:
    """Cause and cure of an operating system error while the environment is written."""
    if number in FULL:
        return f"cannot write {job.venv} ({text.strip()}); free about 100 MB, then run {job.command} again"
    if number in FORBIDDEN:
        return f"cannot write {job.venv} ({text.strip()}); work in a checkout that you may write to"
    return f"cannot make {job.venv} ({text.strip()}); remove {job.venv}, then run {job.command} again"


def make(job: Job) -> None:
    """Make what is missing.

    Raises:
        MakeError: it cannot be made; says why and what helps.
        OSError: the disk is full, read-only or the like.
    """
    lock, project = read(os.path.join(job.root, job.lock)), read(os.path.join(job.root, "pyproject.toml"))
    for name, content in ((job.lock, lock), ("pyproject.toml", project)):
        if content is None:
            raise MakeError(f"{name} is missing; git checkout {name}, then run {job.command} again")
    assert lock is not None and project is not None
    with one_at_a_time(job) as held:
        todo = missing(job, lock, project)
        if not todo:
            return
        if not shutil.which("git"):
            raise MakeError(f"git is missing; install it (apt-get install git), then run {job.command} again")
        if todo == "all":
            make_all(job, lock, held)
        install_project(job, project, held)


def stop(number: int, _frame: object) -> None:
    """SIGTERM ends the child too."""
    raise SystemExit(128 + number)


def main(argv: list[str]) -> int:
    """The script: 0 when the environment is complete, else one line on stderr and 1 (130 after Ctrl-C)."""
    job = Job(*argv)
    signal.signal(signal.SIGTERM, stop)
    try:
        make(job)
    except MakeError as error:
        job.say(str(error))
        return 1
    except OSError as error:
        job.say(explain_os_error(job, error.errno or 0, error.strerror or str(error)))
        return 1
    except KeyboardInterrupt:
        job.say("stopped")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
