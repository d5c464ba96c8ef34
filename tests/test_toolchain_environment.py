"""Pins and environments with the real uv: made once, never half, without a network where the cache has it all."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.toolchain.environment import Environments, environment_key, interpreter_identity
from buildlib.toolchain.lockfile import Pin, ToolLock
from buildlib.toolchain.resolve import parse_answer, resolve
from buildlib.toolchain.sources import no_index, settings, sources

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOT = Path(__file__).resolve().parent.parent


def wheel(
    folder: Path,
    name: str,
    version: str,
    requires: str = "",
    code: str = "",
    tag: str = "py3-none-any",
    python: str = "",
) -> Pin:
    """A wheel of one module and one script, and its pin."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    files = {
        f"{module}.py": code or f"def main():\n    print('{name} {version}')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + (f"Requires-Dist: {requires}\n" if requires else "")
        + (f"Requires-Python: {python}\n" if python else ""),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    rows = [f"{path},sha256={_b64(text)},{len(text.encode())}\n" for path, text in files.items()]
    files[f"{info}/RECORD"] = "".join(rows) + f"{info}/RECORD,,\n"
    path = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in files.items():
            archive.writestr(zipfile.ZipInfo(entry), text)
    return Pin(name, version, (f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",))


def _b64(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def alone(**said: str) -> dict[str, str]:
    """An environment that only knows what is said: no configuration of this machine, no network."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull, **said}


def offline(folder: Path, **said: str) -> dict[str, str]:
    return alone(PIP_NO_INDEX="1", PIP_FIND_LINKS=str(folder), **said)


@contextmanager
def index(root: Path, credentials: str = "") -> Iterator[tuple[str, list[str]]]:
    """A simple repository of the wheels in `root` over HTTP: its URL and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}"
            if "%00" in self.path:
                self.send_error(503)
                return
            if credentials and self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            name = self.path.strip("/").split("/")[-1]
            found = root / name
            if found.is_file():
                body = found.read_bytes()
            else:
                pages = [p.name for p in sorted(root.glob(f"{name.replace('-', '_')}-*.whl"))]
                body = "".join(map(self.link, pages)).encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html" if not found.is_file() else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def link(self, page: str) -> str:
            return f'<a href="/files/{page}#sha256={hashlib.sha256((root / page).read_bytes()).hexdigest()}">{page}</a>'

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_in(environment: str, code: str) -> str:
    return subprocess.run([environment, "-c", code], capture_output=True, text=True, check=True).stdout


# Resolving -----------------------------------------------------------------------------------------------------------


def test_the_closure_is_pinned_with_hashes_and_markers(tmp_path: Path) -> None:
    b = wheel(tmp_path / "w", "b", "2")
    a = wheel(tmp_path / "w", "a", "1", 'b; python_version >= "3.12"')
    pins = resolve(["a"], "3.11", offline(tmp_path / "w"), cache=str(tmp_path / "c"))
    assert pins == (a, Pin("b", "2", b.hashes, "python_full_version >= '3.12'"))


def test_the_newest_is_taken_but_a_preferred_version_stays_where_it_fits(tmp_path: Path) -> None:
    old, new = wheel(tmp_path / "w", "a", "1"), wheel(tmp_path / "w", "a", "2")
    environ, cache = offline(tmp_path / "w"), str(tmp_path / "c")
    assert resolve(["a"], PYTHON, environ, cache=cache) == (new,)
    assert resolve(["a"], PYTHON, environ, {"a": "1", "other": "3"}, cache=cache) == (old,)
    assert resolve(["a>1"], PYTHON, environ, {"a": "1"}, cache=cache) == (new,)
    assert resolve(["a"], PYTHON, environ, {"a": "0.9"}, cache=cache) == (new,)


def test_what_only_serves_this_python_is_pinned_for_it(tmp_path: Path) -> None:
    wheel(tmp_path / "w", "a", "1")
    newer = wheel(tmp_path / "w", "a", "2", python=f">={PYTHON}")
    environ, cache = offline(tmp_path / "w"), str(tmp_path / "c")
    assert resolve(["a>=2"], "3.8", environ, cache=cache) == (newer,)
    assert [pin.version for pin in resolve(["a"], "3.8", environ, cache=cache)] == ["1"]


def test_nothing_required_is_nothing_pinned_without_uv(tmp_path: Path) -> None:
    assert resolve([], PYTHON, alone(), cache=str(tmp_path / "c")) == () and not (tmp_path / "c").exists()


@pytest.mark.parametrize("how", ["own", "environment"])
def test_a_uv_toml_of_the_workspace_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    new = wheel(tmp_path / "w", "a", "2")
    wheel(tmp_path / "w", "a", "1")
    said = {}
    if how == "own":
        (tmp_path / "uv.toml").write_text('[pip]\nresolution = "lowest"\n')
        (tmp_path / "pyproject.toml").write_text("[tool.uv]\nconstraint-dependencies = ['a<2']\n")
    else:
        (tmp_path / "c.txt").write_text("a<2\n")
        said = {"UV_RESOLUTION": "lowest", "UV_CONSTRAINT": str(tmp_path / "c.txt"), "UV_CONFIG_FILE": "/nonexistent"}
    monkeypatch.chdir(tmp_path)
    assert resolve(["a"], PYTHON, offline(tmp_path / "w", **said), cache=str(tmp_path / "c")) == (new,)


def failure(*requires: str, environ: Mapping[str, str], cache: Path) -> BuildlibError:
    with pytest.raises(BuildlibError) as caught:
        resolve(requires, PYTHON, environ, cache=str(cache))
    assert str(caught.value).startswith("buildlib.lock: ") and "\n" not in str(caught.value) and caught.value.cure
    return caught.value


@pytest.mark.parametrize(
    ("requirement", "cause"),
    [
        ("nosuch", "the build requirement nosuch is not on the package index"),
        ("a>=9", "no versions fit together: Because only a==1 is available and you require a>=9"),
        ("a==7", "the package index does not have a==7"),
        ("a b", "'a b' is no requirement"),
        ("x @ file:///x", "names a place"),
    ],
)
def test_what_cannot_be_resolved_is_said_in_one_line(tmp_path: Path, requirement: str, cause: str) -> None:
    wheel(tmp_path / "w", "a", "1")
    assert cause in str(failure(requirement, environ=offline(tmp_path / "w"), cache=tmp_path / "c"))


def test_no_network_is_said_with_the_cure_and_without_the_password(tmp_path: Path) -> None:
    said = alone(PIP_INDEX_URL="http://me:secret@127.0.0.1:9/simple", UV_HTTP_RETRIES="0")
    error = failure("a", environ=said, cache=tmp_path / "c")
    assert "cannot reach http://" in str(error) and "connect to the network" in error.cure
    assert error.detail == "" and "secret" not in str(error) and "Terminated" not in str(error)
    assert "no network (offline)" in str(failure("a", environ=alone(UV_OFFLINE="1"), cache=tmp_path / "c"))


def test_an_index_that_answers_with_an_error_is_not_said_to_be_out_of_reach(tmp_path: Path) -> None:
    with index(tmp_path / "w") as (url, asked):
        broken = url.replace("/simple", "/%00")
        error = failure("a", environ=alone(PIP_INDEX_URL=broken, UV_HTTP_RETRIES="0"), cache=tmp_path / "c")
    assert asked and "the package index answered 503" in str(error) and "try again later" in error.cure
    assert "503" in error.detail


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildlibError, match="BUILDLIB_CACHE: cannot write the cache directory"):
        resolve(["a"], PYTHON, alone(), cache=str(tmp_path / "file"))
    with pytest.raises(BuildlibError, match="BUILDLIB_CACHE: cannot write the cache directory"):
        Environments(str(tmp_path / "file"), alone()).get([])


def test_pips_index_and_its_credentials_reach_the_resolver(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    with index(tmp_path / "w", "me:secret") as (url, _):
        with_password = url.replace("://", "://me:secret@")
        assert resolve(["a"], PYTHON, alone(PIP_INDEX_URL=with_password), cache=str(tmp_path / "c")) == (a,)
        error = failure("a", environ=alone(PIP_INDEX_URL=url), cache=tmp_path / "d")
        assert "the package index refused the credentials" in str(error) and "netrc" in error.cure


def test_an_extra_index_goes_before_the_main_one_which_is_asked_for_what_it_lacks(tmp_path: Path) -> None:
    private = wheel(tmp_path / "private", "a", "1")
    public, other = wheel(tmp_path / "public", "a", "99", code="evil = 1"), wheel(tmp_path / "public", "b", "1")
    with index(tmp_path / "private") as (extra, _), index(tmp_path / "public") as (main, _):
        environ = alone(PIP_INDEX_URL=main, PIP_EXTRA_INDEX_URL=extra)
        assert resolve(["a", "b"], PYTHON, environ, cache=str(tmp_path / "c")) == (private, other)
        assert resolve(["a>1"], PYTHON, environ, cache=str(tmp_path / "c")) == (public,)


def test_a_folder_that_is_not_there_breaks_nothing(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    gone = tmp_path / "gone"
    with index(tmp_path / "w") as (main, _):
        environ = alone(
            PIP_INDEX_URL=main, PIP_EXTRA_INDEX_URL=f"file://{gone}", PIP_FIND_LINKS=f"{gone} file://{gone}"
        )
        assert resolve(["a"], PYTHON, environ, cache=str(tmp_path / "c")) == (a,)


def test_a_release_of_which_a_folder_has_one_file_is_pinned_with_all_the_index_has(tmp_path: Path) -> None:
    any_ = wheel(tmp_path / "public", "a", "1")
    mine = wheel(tmp_path / "public", "a", "1", tag=f"cp{PYTHON.replace('.', '')}-none-any")
    wheel(tmp_path / "folder", "a", "1", tag=f"cp{PYTHON.replace('.', '')}-none-any")
    only = wheel(tmp_path / "folder", "only", "1")
    forged = wheel(tmp_path / "folder", "forged", "1", code="other = 1")
    wheel(tmp_path / "public", "forged", "1")
    with index(tmp_path / "public") as (main, _):
        environ = alone(PIP_INDEX_URL=main, PIP_FIND_LINKS=str(tmp_path / "folder"))
        pins = {pin.name: pin for pin in resolve(["a", "only", "forged"], PYTHON, environ, cache=str(tmp_path / "c"))}
    assert set(pins["a"].hashes) == {*any_.hashes, *mine.hashes}
    assert pins["only"] == only
    assert set(pins["forged"].hashes) >= set(forged.hashes) and len(pins["forged"].hashes) == 1


def test_a_line_that_pins_nothing_is_an_error() -> None:
    with pytest.raises(BuildlibError, match="no version and hash"):
        parse_answer("a @ https://host/a.whl \\\n    --hash=sha256:00\n")


@pytest.mark.slow
def test_real_backends_resolve_and_adding_one_moves_no_other(tmp_path: Path) -> None:
    cache, lock = str(tmp_path / "c"), ToolLock()
    old = resolve(["setuptools-scm", "setuptools<80"], "3.11", os.environ, cache=cache)
    lock = lock.with_environment(["setuptools-scm", "setuptools<80"], old)
    new = resolve(["setuptools", "wheel"], "3.11", os.environ, lock.versions(), cache=cache)
    assert {pin.name: pin.version for pin in new}["setuptools"] == lock.versions()["setuptools"] < "80"


# Where packages come from --------------------------------------------------------------------------------------------


def test_pips_files_are_read_in_its_order_and_its_variables_go_before(tmp_path: Path) -> None:
    texts = {
        "xdg/pip/pip.conf": "[global]\nindex-url = http://system\nclient-cert = /system\n",
        "home/.pip/pip.conf": "[global]\nindex_url = http://legacy\n",
        "home/.config/pip/pip.conf": "[global]\nindex-url = http://user\nextra-index-url =\n  http://one\n  http://two\n",
        "venv/pip.conf": "[global]\nfind-links = http://links\n[install]\nno-index = yes\n",
        "home/.config/pip/other": "[[[",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    places = {"HOME": "home", "XDG_CONFIG_DIRS": "xdg", "VIRTUAL_ENV": "venv"}
    environ = {name: str(tmp_path / folder) for name, folder in places.items()}
    said = settings(environ)
    assert (said["index-url"], said["client-cert"], said["find-links"]) == ("http://user", "/system", "http://links")
    assert said["extra-index-url"].split() == ["http://one", "http://two"] and no_index(environ)
    assert settings(environ | {"PIP_INDEX_URL": "http://said", "PIP_CERT": ""})["index-url"] == "http://said"
    assert not no_index(environ | {"PIP_NO_INDEX": "0"})
    assert settings({"PIP_CONFIG_FILE": os.devnull, "HOME": environ["HOME"]}) == {"config-file": os.devnull}
    assert "index-url" in settings(environ | {"PIP_CONFIG_FILE": str(tmp_path / "home/.config/pip/other")})


def test_uvs_own_words_go_before_pips(tmp_path: Path) -> None:
    environ = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://p", "PIP_EXTRA_INDEX_URL": "http://e"}
    environ |= {"PIP_FIND_LINKS": str(tmp_path), "PIP_CERT": "/p"}
    assert sources(environ) == {
        "UV_DEFAULT_INDEX": "http://p",
        "UV_EXTRA_INDEX_URL": "http://e",
        "UV_INDEX_STRATEGY": "unsafe-first-match",
        "UV_FIND_LINKS": str(tmp_path),
        "SSL_CERT_FILE": "/p",
    }
    uvs = {"UV_INDEX_URL": "u", "UV_INDEX": "u", "UV_FIND_LINKS": "u", "SSL_CERT_FILE": "u"}
    assert sources(environ | uvs) == {}
    assert sources({"PIP_CONFIG_FILE": os.devnull, "CURL_CA_BUNDLE": "/c"}) == {"SSL_CERT_FILE": "/c"}
    assert "ALL_PROXY" not in sources(environ | {"PIP_PROXY": "http://x", "HTTPS_PROXY": "http://y"})


def test_a_users_uv_toml_names_sources_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".config/uv").mkdir(parents=True)
    (tmp_path / ".config/uv/uv.toml").write_text(
        'resolution = "lowest"\nnative-tls = true\n[[index]]\nname = "corp"\nurl = "http://corp"\n'
        '[[index]]\nurl = "http://main"\ndefault = true\n[[index]]\nurl = "http://torch"\nexplicit = true\n'
        '[pip]\nno-index = true\nfind-links = ["/links"]\n'
    )
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "http://pip"}
    found = {"UV_DEFAULT_INDEX": "http://main", "UV_INDEX": "corp=http://corp", "UV_FIND_LINKS": "/links"}
    assert sources(environ) == found | {"UV_SYSTEM_CERTS": "1"} and no_index(environ)
    assert sources(environ | dict.fromkeys(found, "x") | {"UV_SYSTEM_CERTS": "0"}) == {}
    assert "UV_DEFAULT_INDEX" not in sources(environ | {"UV_INDEX_URL": "http://said"})


def test_a_users_index_is_used_with_the_credentials_of_its_name(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    (tmp_path / ".config/uv").mkdir(parents=True)
    with index(tmp_path / "w", "me:secret") as (url, _):
        text = f'[[index]]\nname = "corp"\nurl = "{url}"\ndefault = true\n'
        (tmp_path / ".config/uv/uv.toml").write_text(text)
        environ = alone(UV_INDEX_CORP_USERNAME="me", UV_INDEX_CORP_PASSWORD="secret") | {"HOME": str(tmp_path)}
        assert resolve(["a"], PYTHON, environ, cache=str(tmp_path / "c")) == (a,)


# Environments --------------------------------------------------------------------------------------------------------


def test_an_environment_has_the_pins_and_its_programs_run(tmp_path: Path) -> None:
    a, b = wheel(tmp_path / "w", "a", "1"), wheel(tmp_path / "w", "b", "2")
    made = Environments(str(tmp_path / "c"), offline(tmp_path / "w")).get([a, b])
    assert made.path == str(tmp_path / "c/envs" / made.key) and made.bin == os.path.dirname(made.python)
    assert run_in(made.python, "import a, b; a.main(); b.main()") == "a 1\nb 2\n"
    assert subprocess.run([f"{made.bin}/a"], capture_output=True, text=True, check=True).stdout == "a 1\n"
    assert run_in(made.python, "import sys; print(sys.prefix)") == f"{made.path}\n"
    assert list(Path(made.path).rglob("__pycache__/a.*.pyc")), "bytecode is compiled when it is made"
    assert not list(Path(made.path).rglob("direct_url.json")) and not list(Path(made.path).rglob("uv_cache.json"))


def test_a_pin_that_does_not_apply_here_is_not_installed(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    foreign = Pin("other", "1", a.hashes, "sys_platform == 'win32'")
    environments = Environments(str(tmp_path / "c"), offline(tmp_path / "w"))
    assert environments.get([foreign, a]) == environments.get([a])


def test_an_environment_that_is_there_needs_no_uv_and_no_wheels(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    made = Environments(str(tmp_path / "c"), offline(tmp_path / "w")).get([a])
    (tmp_path / "w/a-1-py3-none-any.whl").unlink()
    before = {path: path.stat().st_mtime_ns for path in Path(tmp_path / "c").rglob("*")}
    code = (
        "import sys; sys.modules['subprocess'] = None; sys.modules['uv'] = None\n"
        "from buildlib.toolchain.environment import Environments; from buildlib.toolchain.lockfile import Pin\n"
        f"print(Environments({str(tmp_path / 'c')!r}, {{}}).get([{a!r}]).path)"
    )
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert again.stdout == f"{made.path}\n"
    assert {path: path.stat().st_mtime_ns for path in Path(tmp_path / "c").rglob("*")} == before


def test_a_filled_cache_serves_without_a_network(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    cache = tmp_path / "c"
    with index(tmp_path / "w") as (url, _):
        made = Environments(str(cache), alone(UV_DEFAULT_INDEX=url)).get([a])
    subprocess.run(["rm", "-r", made.path], check=True)
    said = alone(UV_DEFAULT_INDEX=url, UV_OFFLINE="1")
    assert Environments(str(cache), said).get([a]) == made
    assert run_in(made.python, "import a; a.main()") == "a 1\n"
    with pytest.raises(BuildlibError, match=r"no network \(offline\), and a is not in the cache"):
        Environments(str(tmp_path / "d"), said).get([a])


def test_without_a_network_all_environments_fail_with_the_first_error_and_only_one_waits(tmp_path: Path) -> None:
    b = wheel(tmp_path / "b", "b", "1")
    with index(tmp_path / "b") as (url, _):
        kept = Environments(str(tmp_path / "c"), alone(UV_DEFAULT_INDEX=url)).get([b])
    subprocess.run(["rm", "-r", kept.path], check=True)
    environments = Environments(str(tmp_path / "c"), alone(UV_DEFAULT_INDEX=url))
    said, took = [], []
    for name in "pqr":
        start = time.monotonic()
        with pytest.raises(BuildlibError) as caught:
            environments.get([Pin(name, "1", b.hashes)])
        took.append(time.monotonic() - start)
        said.append((str(caught.value), caught.value.detail))
    assert len(set(said)) == 1 and "cannot reach http://" in said[0][0] and said[0][1] == ""
    assert took[0] < 8 and max(took[1:]) < took[0] / 2, took
    assert environments.get([b]) == kept, "what the cache has is still made"


def test_a_file_that_is_not_the_locked_one_is_named(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    wheel(tmp_path / "w", "a", "1", code="evil = 1\n")
    with index(tmp_path / "w") as (url, _), pytest.raises(BuildlibError) as caught:
        Environments(str(tmp_path / "c"), alone(UV_DEFAULT_INDEX=url)).get([a])
    assert "the file that the index has for a==1 is not the one that is locked" in str(caught.value)
    assert [path.name for path in (tmp_path / "c/envs").iterdir() if path.is_dir()] == []


def test_a_key_changes_with_every_pin_hash_and_interpreter() -> None:
    here = interpreter_identity()
    a, b = Pin("a", "1", ("sha256:00",)), Pin("b", "1", ("sha256:11",))
    closures = [[], [a], [b], [a, b], [Pin("a", "2", a.hashes)], [Pin("a", "1", b.hashes)]]
    keys = [environment_key(pins, here) for pins in closures]
    keys.append(environment_key([a], here.replace("zlib", "zlib-ng")))
    assert len(set(keys)) == len(keys) and environment_key([b, a], here) == environment_key([a, b], here)
    assert PYTHON in here and "zlib" in here


def test_a_marker_that_is_none_is_an_error() -> None:
    with pytest.raises(BuildlibError, match="no environment marker"):
        environment_key([Pin("a", "1", (), "python <> 3")], interpreter_identity())


def test_it_is_made_once_when_many_ask_at_once(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    environments = Environments(str(tmp_path / "c"), offline(tmp_path / "w"))
    made: list[tuple[str, int]] = []

    def ask() -> None:
        found = environments.get([a])
        made.append((found.path, os.stat(found.path).st_ino))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    others = [asking(tmp_path, a) for _ in range(2)]
    for thread in threads:
        thread.join()
    for other in others:
        stdout, _ = other.communicate()
        path, inode = stdout.split()
        made.append((path, int(inode)))
    assert len(made) == 10 and len(set(made)) == 1


def asking(root: Path, pin: Pin) -> subprocess.Popen[str]:
    code = (
        "import os\nfrom buildlib.toolchain.environment import Environments\n"
        "from buildlib.toolchain.lockfile import Pin\n"
        f"found = Environments({str(root / 'c')!r}, {offline(root / 'w')!r}).get([{pin!r}])\n"
        "print(found.path, os.stat(found.path).st_ino)"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_killed_making_ends_uv_and_poisons_nothing(tmp_path: Path) -> None:
    a = wheel(tmp_path / "w", "a", "1")
    with stuck_index() as (url, asked):
        code = (
            "from buildlib.toolchain.environment import Environments; from buildlib.toolchain.lockfile import Pin\n"
            f"Environments({str(tmp_path / 'c')!r}, {alone(UV_DEFAULT_INDEX=url)!r}).get([{a!r}])\n"
        )
        child = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        assert asked.wait(20), "uv has begun to install"
        uvs = [pid for pid, line in processes().items() if f"--python {tmp_path}" in line]
        assert uvs
        child.send_signal(signal.SIGKILL)
        child.wait()
        limit = time.monotonic() + 2
        while set(uvs) & set(processes()) and time.monotonic() < limit:
            time.sleep(0.02)
        assert not set(uvs) & set(processes())
    (left,) = [path for path in (tmp_path / "c/envs").iterdir() if path.is_dir()]
    (left / "litter").write_text("")
    made = Environments(str(tmp_path / "c"), offline(tmp_path / "w")).get([a])
    assert made.path == str(left) and not (left / "litter").exists()
    assert run_in(made.python, "import a; a.main()") == "a 1\n"


def processes() -> dict[int, str]:
    """Running processes by pid, with their command lines."""
    table = subprocess.run(["ps", "-ewwo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 2) for line in table.splitlines())
    return {int(row[0]): row[2] for row in rows if len(row) == 3 and not row[1].startswith("Z")}


@contextmanager
def stuck_index() -> Iterator[tuple[str, threading.Event]]:
    """An index that takes requests and never answers."""
    import socket

    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                kept.append(server.accept()[0])
                asked.set()
            except OSError:
                return

        kept: list[socket.socket] = []
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/simple", asked
        for connection in kept:
            connection.close()


def test_an_environment_whose_interpreter_went_away_is_made_anew(tmp_path: Path) -> None:
    made = Environments(str(tmp_path / "c"), alone()).get([])
    os.unlink(made.python)
    os.symlink("/nonexistent/python", made.python)
    assert run_in(Environments(str(tmp_path / "c"), alone()).get([]).python, "print(1)") == "1\n"


@pytest.mark.slow
def test_a_requirement_that_is_only_an_sdist_works(tmp_path: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[project]\nname = "only-sdist"\nversion = "1"\n[build-system]\nrequires = ["flit-core>=3.2"]\n'
        'build-backend = "flit_core.buildapi"\n'
    )
    (project / "only_sdist.py").write_text('"""It came as source."""\n')
    pyproject = project / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('version = "1"', 'version = "1"\ndescription = "x"'))
    environ = dict(os.environ)
    from uv import find_uv_bin

    subprocess.run([find_uv_bin(), "build", "--sdist", "-q", "-o", str(tmp_path / "w"), str(project)], check=True)
    environ["UV_FIND_LINKS"] = str(tmp_path / "w")
    pins = resolve(["only-sdist"], PYTHON, environ, cache=str(tmp_path / "c"))
    made = Environments(str(tmp_path / "c"), environ).get(pins)
    assert run_in(made.python, "import only_sdist; print(only_sdist.__doc__)") == "It came as source.\n"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["poetry-core", "hatchling", "setuptools"])
def test_a_wheel_built_in_it_does_not_name_it(tmp_path: Path, backend: str) -> None:
    modules = {"poetry-core": "poetry.core.masonry.api", "hatchling": "hatchling.build"}
    module = modules.get(backend, "setuptools.build_meta")
    cache = str(tmp_path / "c")
    made = Environments(cache, os.environ).get(resolve([backend], "3.11", os.environ, cache=cache))
    (tmp_path / "p/demo").mkdir(parents=True)
    (tmp_path / "p/demo/__init__.py").write_text("")
    (tmp_path / "p/run").write_text("#!/usr/bin/env python\n")
    scripts = '\n[tool.setuptools]\nscript-files = ["run"]\npackages = ["demo"]\n' if backend == "setuptools" else ""
    text = '[project]\nname = "demo"\nversion = "1"\n[project.scripts]\ndemo = "demo:main"\n' + scripts
    (tmp_path / "p/pyproject.toml").write_text(text)
    code = f"import {module} as b; print(b.build_wheel('out'))"
    (tmp_path / "p/out").mkdir()
    subprocess.run([made.python, "-c", code], cwd=tmp_path / "p", check=True, stdout=subprocess.DEVNULL)
    (built,) = (tmp_path / "p/out").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if str(tmp_path).encode() in archive.read(name)]
