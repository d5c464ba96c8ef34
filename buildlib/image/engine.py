"""The quick question to a Docker engine: are you there, and which images do you have?

Knows one request of the engine's HTTP API (`GET /images/json`). Does not know how images are made; never imports the
docker package, whose import alone takes longer than a whole no-op build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildlib.image.endpoint import Endpoint, Tls

if TYPE_CHECKING:
    import socket

TIMEOUT = 4.0  # seconds, for the whole answer
SHORT_ID = re.compile("[0-9a-f]{4,64}")
# HTTP/1.0 asks for one plain body and a closed connection: no chunks, and no http.client, whose import costs as much
# as a third of `doit --version`. Any version of the API answers an address without a version in it.
REQUEST = b"GET /images/json HTTP/1.0\r\nHost: docker\r\nAccept: application/json\r\n\r\n"


@dataclass
class EngineState:
    """What an engine said when it was asked last.

    Attributes:
        reachable: whether an engine answered.
        why: where not, the reason in one line; else empty.
        images: image id of every `name:tag` and `name@digest`, names as the engine prints them.
        ids: ids of all images, untagged ones included (not the intermediate ones of a build).
    """

    reachable: bool
    why: str = ""
    images: Mapping[str, str] = field(default_factory=dict)
    ids: frozenset[str] = frozenset()

    def find(self, reference: str) -> str | None:
        """The id behind a reference as a person writes it: `python`, `docker.io/library/python`, an id, a short id."""
        if reference in self.ids:
            return reference
        named = self.images.get(familiar(reference))
        return named or (self._by_short_id(reference) if SHORT_ID.fullmatch(reference) else None)

    def update(self, later: EngineState) -> None:
        """Take what the engine said later: an image was pulled since, a name given to another."""
        self.reachable, self.why, self.images, self.ids = later.reachable, later.why, later.images, later.ids

    def _by_short_id(self, begin: str) -> str | None:
        found = [image for image in self.ids if image.removeprefix("sha256:").startswith(begin)]
        return found[0] if len(found) == 1 else None


def familiar(reference: str) -> str:
    """A reference as the engine prints it: without docker.io and library, with a tag, without one beside a digest."""
    name, _, digest = reference.partition("@")
    head, slash, tail = name.rpartition("/")
    base, colon, tag = tail.partition(":")
    path = head + slash + base
    for prefix in ("docker.io/", "index.docker.io/", "library/"):
        path = path.removeprefix(prefix)
    return f"{path}@{digest}" if digest else f"{path}:{tag if colon else 'latest'}"


def inspect_engine(endpoint: Endpoint, timeout: float = TIMEOUT) -> EngineState:
    """Ask the engine for its images: one HTTP call that ends within `timeout` seconds; raises nothing.

    An address by ssh is not asked (a login takes seconds): it is reported as not reachable, with that reason.
    """
    if endpoint.host.startswith("ssh:"):
        return EngineState(False, f"{endpoint.host}: engines by ssh are not looked at beforehand")
    try:
        return _state(_exchange(endpoint, timeout))
    except TimeoutError:
        return EngineState(False, f"{endpoint.host}: no answer within {timeout:g} s")
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return EngineState(False, f"{endpoint.host}: {' '.join(str(reason).split())}")


def _state(answer: bytes) -> EngineState:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/"):
        raise ValueError("what answers there is no Docker engine")
    if status[1] != b"200":
        raise ValueError(f"the engine answered HTTP {status[1].decode('ascii', 'replace')}: {_message(body)}")
    return _images(json.loads(body))


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])[:300]
    except (ValueError, LookupError, TypeError):
        return body[:100].decode("utf-8", "replace")


def _images(listed: list[dict[str, object]]) -> EngineState:
    names: dict[str, str] = {}
    for image in listed:
        for name in [*_strings(image.get("RepoTags")), *_strings(image.get("RepoDigests"))]:
            if "<none>" not in name:
                names[name] = str(image["Id"])
    return EngineState(True, "", names, frozenset(str(image["Id"]) for image in listed))


def _strings(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _exchange(endpoint: Endpoint, timeout: float) -> bytes:
    """Send the request, read to the end; the deadline is for all of it, so that a trickling server cannot hold us."""
    import time

    deadline = time.monotonic() + timeout
    parts: list[bytes] = []
    with _connect(endpoint, timeout) as connection:
        connection.sendall(REQUEST)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            connection.settimeout(left)
            part = connection.recv(1 << 16)
            if not part:
                return b"".join(parts)
            parts.append(part)


def _connect(endpoint: Endpoint, timeout: float) -> socket.socket:
    import socket

    scheme, _, address = endpoint.host.partition("://")
    if scheme == "unix":
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(timeout)
        try:
            plain.connect(address)
        except BaseException:
            plain.close()
            raise
        return plain
    name, port = _host_and_port(scheme, address)
    plain = socket.create_connection((name, port), timeout)
    tls = endpoint.tls or (Tls(None, None, None, True) if scheme == "https" else None)
    return _wrapped(plain, name, tls) if tls else plain


def _host_and_port(scheme: str, address: str) -> tuple[str, int]:
    name, colon, port = address.partition("/")[0].rpartition(":")
    if not colon:
        name, port = port, "443" if scheme == "https" else "80"
    return name.strip("[]"), int(port)


def _wrapped(plain: socket.socket, name: str, tls: Tls) -> socket.socket:
    import ssl

    try:
        context = ssl.create_default_context(cafile=tls.ca)
        if not tls.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if tls.cert and tls.key:
            context.load_cert_chain(tls.cert, tls.key)
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise
