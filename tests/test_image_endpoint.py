"""buildlib.image.endpoint: the engine is the one that `docker` itself would talk to."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from buildlib.errors import BuildlibError
from buildlib.image.endpoint import DEFAULT_HOST, Tls, find_endpoint


def _config(folder: Path, current: object = None, contexts: dict[str, dict[str, object]] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"currentContext": current} if current else {}))
    for name, endpoint in (contexts or {}).items():
        meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    return folder


def test_without_any_setting_it_is_the_local_socket(tmp_path: Path) -> None:
    found = find_endpoint({"HOME": str(tmp_path)})
    assert (found.host, found.tls, found.source) == (DEFAULT_HOST, None, "default")


def test_docker_host_wins_over_context_which_wins_over_config(tmp_path: Path) -> None:
    contexts: dict[str, dict[str, object]] = {"one": {"Host": "tcp://one:1"}, "two": {"Host": "tcp://two:2"}}
    environ = {"DOCKER_CONFIG": str(_config(tmp_path / "c", "one", contexts))}
    assert find_endpoint(environ).host == "tcp://one:1"
    environ["DOCKER_CONTEXT"] = "two"
    assert find_endpoint(environ).host == "tcp://two:2"
    environ["DOCKER_HOST"] = "tcp://three:3"
    assert find_endpoint(environ).host == "tcp://three:3"


def test_the_context_called_default_is_none(tmp_path: Path) -> None:
    config = _config(tmp_path / "c", "one", {"one": {"Host": "tcp://one:1"}})
    assert find_endpoint({"DOCKER_CONFIG": str(config), "DOCKER_CONTEXT": "default"}).host == DEFAULT_HOST


@pytest.mark.parametrize("text", ["", "{", "[]", '{"currentContext": 7}', "\xff"])
def test_a_broken_config_json_is_passed_over_as_docker_does(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert find_endpoint({"DOCKER_CONFIG": str(tmp_path)}).host == DEFAULT_HOST


def test_an_unknown_context_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(BuildlibError, match=r"docker context 'nope': there is no such context; `docker context ls`"):
        find_endpoint({"DOCKER_CONFIG": str(tmp_path), "DOCKER_CONTEXT": "nope"})


@pytest.mark.parametrize("text", ["", "[]", '{"Endpoints": {}}', '{"Endpoints": 1}', '{"Endpoints": {"docker": 1}}'])
def test_a_broken_context_is_an_error_not_another_engine(tmp_path: Path, text: str) -> None:
    config = _config(tmp_path / "c", "one", {"one": {}})
    next(config.glob("contexts/meta/*/meta.json")).write_text(text)
    with pytest.raises(BuildlibError, match=r"docker context 'one': its meta\.json cannot be read"):
        find_endpoint({"DOCKER_CONFIG": str(config)})


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("tcp://h", "tcp://h:2375"),
        ("tcp://h:1", "tcp://h:1"),
        ("tcp://:1", "tcp://localhost:1"),
        ("h:1", "tcp://h:1"),
        ("tcp://[::1]", "tcp://[::1]:2375"),
        ("unix://", DEFAULT_HOST),
        ("ssh://me@h", "ssh://me@h"),
    ],
)
def test_hosts_are_completed_as_docker_completes_them(tmp_path: Path, given: str, host: str) -> None:
    assert find_endpoint({"HOME": str(tmp_path), "DOCKER_HOST": given}).host == host


@pytest.mark.parametrize("given", ["ftp://h", "tcp://", "fd://x", "://"])
def test_a_host_that_is_no_engine_is_an_error(tmp_path: Path, given: str) -> None:
    with pytest.raises(BuildlibError, match=r"DOCKER_HOST: .* is no address of an engine; give unix:///PATH"):
        find_endpoint({"HOME": str(tmp_path), "DOCKER_HOST": given})


def test_tls_of_the_environment(tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    environ = {"DOCKER_HOST": "tcp://h", "DOCKER_CERT_PATH": str(tmp_path), "DOCKER_TLS_VERIFY": "1"}
    assert find_endpoint(environ).host == "tcp://h:2376"
    assert find_endpoint(environ).tls == Tls(ca, cert, key, verify=True)
    unverified = {**environ, "DOCKER_TLS_VERIFY": "", "DOCKER_TLS": "1"}
    assert find_endpoint(unverified).tls == Tls(ca, cert, key, verify=False)
    assert find_endpoint({**environ, "DOCKER_HOST": "unix:///x"}).tls is None


def test_tls_of_a_context(tmp_path: Path) -> None:
    contexts: dict[str, dict[str, object]] = {"one": {"Host": "tcp://h:1", "SkipTLSVerify": True}}
    config = _config(tmp_path / "c", "one", contexts)
    folder = config / "contexts" / "tls" / hashlib.sha256(b"one").hexdigest() / "docker"
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_text("")
    assert find_endpoint({"DOCKER_CONFIG": str(config)}).tls == Tls(str(folder / "ca.pem"), None, None, verify=False)


@pytest.mark.skipif(not shutil.which("docker"), reason="the docker command line is not installed")
@pytest.mark.parametrize("by", ["DOCKER_CONTEXT", "config.json", "default", "DOCKER_HOST"])
def test_a_context_made_by_the_docker_command_is_found_as_it_finds_it(tmp_path: Path, by: str) -> None:
    config = str(tmp_path / "c")
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_CONFIG": config}

    def docker(*words: str) -> str:
        done = subprocess.run(["docker", *words], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    docker("context", "create", "far", "--docker", "host=tcp://far.example:2375")
    if by == "DOCKER_CONTEXT":
        environ["DOCKER_CONTEXT"] = "far"
    if by == "config.json":
        docker("context", "use", "far")
    if by == "DOCKER_HOST":
        docker("context", "use", "far")
        environ["DOCKER_HOST"] = "unix:///near.sock"
    name = json.loads(docker("context", "ls", "--format", "{{if .Current}}{{json .Name}}{{end}}").strip())
    told = json.loads(docker("context", "inspect", name))[0]["Endpoints"]["docker"]["Host"]
    expected = environ.get("DOCKER_HOST", told)
    assert find_endpoint(environ).host == expected
    assert find_endpoint(environ).source == {"far": "docker context 'far'", "default": "default"}.get(name) or by
