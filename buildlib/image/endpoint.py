"""Which Docker engine is meant: the same answer as the docker command line's.

Knows the environment variables, `config.json` and the context store of the docker CLI (docs.docker.com: "Docker
contexts", "Environment variables"). Does not know whether an engine answers there.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from buildlib.errors import BuildlibError

DEFAULT_HOST = "unix:///var/run/docker.sock"
SCHEMES = ("unix", "tcp", "ssh", "http", "https")


@dataclass(frozen=True)
class Tls:
    """What a TLS connection needs; paths of PEM files, None where there is none.

    Attributes:
        verify: whether the engine's certificate is checked (against `ca`, or the system's authorities without it).
    """

    ca: str | None
    cert: str | None
    key: str | None
    verify: bool


@dataclass(frozen=True)
class Endpoint:
    """An engine's address.

    Attributes:
        host: a URL with its scheme, `unix:///run/docker.sock` or `tcp://10.0.0.1:2376`.
        tls: None for a plain connection.
        source: what named it, for messages: `DOCKER_HOST`, `docker context 'x'` or `default`.
    """

    host: str
    tls: Tls | None
    source: str


def find_endpoint(environ: Mapping[str, str]) -> Endpoint:
    """The engine that `docker` would talk to in this environment.

    DOCKER_HOST wins over DOCKER_CONTEXT, which wins over `currentContext` in config.json.

    Raises:
        BuildlibError: a context that does not exist or cannot be read, or a host that is no URL of an engine.
    """
    config = _config_dir(environ)
    if environ.get("DOCKER_HOST"):
        return _from_environ(environ, config, "DOCKER_HOST")
    name = environ.get("DOCKER_CONTEXT") or _current_context(config)
    if not name or name == "default":
        return _from_environ(environ, config, "default")
    return _from_context(name, config)


def _config_dir(environ: Mapping[str, str]) -> str:
    home = environ.get("HOME") or os.path.expanduser("~")
    return environ.get("DOCKER_CONFIG") or os.path.join(home, ".docker")


def _current_context(config: str) -> str:
    # An unreadable config.json makes the docker CLI print a warning and go on without it.
    try:
        with open(os.path.join(config, "config.json"), encoding="utf-8") as stream:
            name = json.load(stream).get("currentContext")
    except (OSError, ValueError, AttributeError):
        return ""
    return name if isinstance(name, str) else ""


def _from_environ(environ: Mapping[str, str], config: str, source: str) -> Endpoint:
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    host = _checked(environ.get("DOCKER_HOST", "").strip() or DEFAULT_HOST, source)
    wants_tls = (verify or bool(environ.get("DOCKER_TLS"))) and host.startswith("tcp:")
    folder = environ.get("DOCKER_CERT_PATH") or config
    return Endpoint(_with_port(host, wants_tls), _tls(folder, verify) if wants_tls else None, source)


def _from_context(name: str, config: str) -> Endpoint:
    """A context's directory is named by the sha256 of its name (docker/cli, cli/context/store)."""
    source = f"docker context {name!r}"
    key = hashlib.sha256(name.encode()).hexdigest()
    try:
        with open(os.path.join(config, "contexts", "meta", key, "meta.json"), encoding="utf-8") as stream:
            meta = json.load(stream)["Endpoints"]["docker"]
        host, unverified = meta.get("Host") or DEFAULT_HOST, bool(meta.get("SkipTLSVerify"))
    except FileNotFoundError:
        cure = "`docker context ls` lists them; `docker context use default` or DOCKER_HOST chooses another engine"
        raise BuildlibError(source, "there is no such context", cure) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        cure = f"remove and create it again: `docker context rm {name}`"
        raise BuildlibError(source, f"its meta.json cannot be read ({error})", cure) from None
    host, folder = _checked(host, source), os.path.join(config, "contexts", "tls", key, "docker")
    wants_tls = host.startswith("tcp:") and (unverified or os.path.isdir(folder))
    return Endpoint(_with_port(host, wants_tls), _tls(folder, not unverified) if wants_tls else None, source)


def _tls(folder: str, verify: bool) -> Tls:
    paths = [os.path.join(folder, name) for name in ("ca.pem", "cert.pem", "key.pem")]
    ca, cert, key = (path if os.path.isfile(path) else None for path in paths)
    return Tls(ca, cert, key, verify)


def _checked(host: object, source: str) -> str:
    """The host as a URL; a bare `machine:2375` means tcp, as docker reads it."""
    url = host if isinstance(host, str) and "://" in host else f"tcp://{host}"
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or (not rest.strip("/") and scheme != "unix"):
        cure = "give unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST"
        raise BuildlibError(source, f"{str(host)!r} is no address of an engine", cure)
    return DEFAULT_HOST if url == "unix://" else url


def _with_port(url: str, tls: bool) -> str:
    """docker's defaults: localhost, port 2375, with TLS 2376."""
    if not url.startswith("tcp://"):
        return url
    address, slash, path = url.removeprefix("tcp://").partition("/")
    name, colon, port = address.rpartition(":")
    if not colon or "]" in port:
        name, port = address, "2376" if tls else "2375"
    return f"tcp://{name or 'localhost'}:{port}{slash}{path}"
