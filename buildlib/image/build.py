"""Making images in a Docker engine, with the docker package.

Knows the engine's build, pull and tag calls and how their output is read. Does not know what is in a context, whose
image it is, or whether a build is needed.

docker-py drives the engine's classic builder only (docker/docker-py#2230): a Dockerfile with BuildKit's own syntax
(`RUN --mount`, here-documents) fails, and the error says so. Half-made state is the engine's: when our process dies the
connection closes, the engine stops the build and removes its container. A tag moves only after the whole build was
seen to succeed, by a call of its own; the image that had the tag before stays in the engine without a name, as after
`docker build` (`docker image prune` removes those).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.image.dockerfile import Hint
from buildlib.image.endpoint import Endpoint
from buildlib.image.engine import familiar

COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
TIMEOUT = 60.0  # seconds for one short call; builds and pulls may be silent for as long as they like
NO_ENGINE = "start Docker, or name the engine with DOCKER_HOST or `docker context use`"
PULL = "check the image's name, the network and `docker login`"
# What engines say, and what a person can do about it.
CURES = (
    (r"requires? BuildKit|unknown flag: (?:mount|link|chmod)", "write the step without BuildKit's syntax"),
    (
        r"no source files were specified|not found in build context|outside the build context",
        "no file of the context matches: compare that COPY with what is in dist/",
    ),
    (r"failed to reach build target", "`target` must be the name of a stage, `FROM … AS NAME`"),
    (r"pull access denied|manifest unknown|not found: manifest|no such host|connection refused|i/o timeout", PULL),
    (r"container \w+ is using", "remove that container (`docker rm -f`), then try again"),
    (r"no space left", "free space in the engine: `docker system prune`"),
)


class BuildFailed(BuildlibError):
    """The engine did not make the image; `detail` is the whole output of the build, secrets masked."""


@dataclass(frozen=True)
class BuiltImage:
    """A made image: its id (`sha256:…`) and the output of its build, secrets masked."""

    id: str
    log: str


def build(
    endpoint: Endpoint,
    *,
    context: Iterable[bytes],
    dockerfile_name: str,
    tag: str,
    args: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    target: str | None = None,
    cache_from: Sequence[str] = (),
    platform: str | None = None,
    on_output: Callable[[str], None] | None = None,
) -> BuiltImage:
    """Build an image and give it its tag.

    Args:
        context: the pieces of an uncompressed tar; not sent before the engine answered.
        dockerfile_name: the Dockerfile's path in the tar.
        tag: `name:tag`.
        args: build arguments.
        secrets: build arguments whose values are replaced by *** in output and errors. The engine keeps them:
            `docker history` of the image shows every build argument that a RUN could see.
        target: the stage to stop at.
        cache_from: images whose layers may be reused; absent ones are pulled, one that cannot be is no error. The
            image that has the tag now is always added, because an engine that is told any looks at those alone.
        on_output: called with each line of output as it comes.

    Raises:
        BuildFailed: the build failed or its connection was lost; the tag did not move.
        BuildlibError: no engine answers.
        Whatever `context` raises; the engine then builds nothing.
    """
    output = _Output((secrets or {}).values(), on_output)
    with _client(endpoint) as client, _failures(tag, output):
        sources = _cache_sources(client, cache_from, tag, output)
        events = client.build(
            fileobj=context,
            custom_context=True,
            dockerfile=dockerfile_name,
            buildargs={**(args or {}), **(secrets or {})},
            target=target or "",
            cache_from=sources,
            platform=platform,
            rm=True,
            forcerm=True,
            timeout=None,
            decode=True,
        )
        made = _follow(events, tag, output)
        _tag(client, made, tag)
    return BuiltImage(made, output.text())


def pull(
    endpoint: Endpoint, reference: str, *, platform: str | None = None, on_output: Callable[[str], None] | None = None
) -> str:
    """Pull `reference` (`name`, `name:tag` or `name@sha256:…`); gives the image's id. Credentials are docker's own.

    Raises:
        BuildFailed: the registry does not give it.
        BuildlibError: no engine answers.
    """
    output = _Output((), on_output)
    with _client(endpoint) as client, _failures(reference, output):
        return _pull(client, reference, platform, output)


def tag(endpoint: Endpoint, image_id: str, reference: str) -> None:
    """Give the image a further name; the name leaves the image that had it.

    Raises:
        BuildFailed: there is no such image. BuildlibError: no engine answers.
    """
    with _client(endpoint) as client, _failures(reference, _Output((), None)):
        _tag(client, image_id, reference)


def remove_tag(endpoint: Endpoint, reference: str, only_if_id: str) -> bool:
    """Take the name from the image if it is still on `only_if_id`; an image without a name is deleted by the engine.

    Gives whether it was removed: False where the name is gone or on another image (then it is not ours to remove).

    Raises:
        BuildFailed: the engine refuses, for example because a container uses the image.
        BuildlibError: no engine answers.
    """
    with _client(endpoint) as client, _failures(reference, _Output((), None)):
        if _image_id(client, reference) != only_if_id:
            return False
        client.remove_image(reference)
        return True


class _Output:
    """Collects what an engine says, line by line: colours off, secrets masked before anyone sees a line."""

    def __init__(self, secrets: Iterable[str], on_line: Callable[[str], None] | None) -> None:
        # Output is masked by lines, so a secret of several lines is masked by its lines.
        parts = {part for secret in secrets for part in (secret, *secret.splitlines()) if part.strip()}
        longest_first = "|".join(re.escape(part) for part in sorted(parts, key=len, reverse=True))
        # Engines repeat words of a Dockerfile in capitals.
        self._secrets = re.compile(longest_first, re.IGNORECASE) if parts else None
        self._on_line, self._lines, self._rest = on_line, list[str](), ""

    def masked(self, text: str) -> str:
        return self._secrets.sub("***", text) if self._secrets else text

    def write(self, text: str) -> None:
        """Take a piece; a line is passed on when it is whole, since a secret may arrive in two pieces."""
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._pass_on(line)

    def flush(self) -> None:
        rest, self._rest = self._rest, ""
        if rest:
            self._pass_on(rest)

    def text(self) -> str:
        return "\n".join(self._lines)

    def _pass_on(self, line: str) -> None:
        line = self.masked(COLOURS.sub("", line)).rstrip()
        # A progress bar redraws its line after a carriage return: what stands there last is what a person would see.
        line = line.rpartition("\r")[2]
        if line:
            self._lines.append(line)
            if self._on_line:
                self._on_line(line)


def explained(error: BuildFailed, found: Sequence[Hint]) -> BuildFailed:
    """The same failure with the first fatal hint about its Dockerfile as the cure; without one, as it was."""
    hint = next((hint for hint in found if hint.fatal), None)
    return BuildFailed(error.place, error.cause, str(hint), error.detail) if hint else error


@contextmanager
def _client(endpoint: Endpoint) -> Iterator[Any]:
    """A client of docker-py, connected; BuildlibError where no engine answers."""
    from docker.errors import DockerException

    try:
        client = _client_class()(
            base_url=endpoint.host,
            version="auto",
            tls=_tls(endpoint),
            timeout=TIMEOUT,
            use_ssh_client=endpoint.host.startswith("ssh:"),
        )
    except (DockerException, OSError, ValueError) as error:
        cause = f"no Docker engine answers at {endpoint.host} ({_reason(error)})"
        raise BuildlibError(endpoint.source, cause, NO_ENGINE) from None
    try:
        yield client
    finally:
        client.close()


def _client_class() -> Any:
    import docker

    class Client(docker.APIClient):  # type: ignore[misc]
        def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
            """requests lets REQUESTS_CA_BUNDLE replace the authority of the engine's certificates; docker does not."""
            return super().merge_environment_settings(url, proxies, stream, verify or self.verify, cert)

    return Client


def _tls(endpoint: Endpoint) -> Any:
    from docker.tls import TLSConfig

    if endpoint.tls is None:
        return False
    tls = endpoint.tls
    pair = (tls.cert, tls.key) if tls.cert and tls.key else None
    return TLSConfig(client_cert=pair, ca_cert=tls.ca, verify=tls.verify)


def _reason(error: BaseException) -> str:
    """The innermost reason of a nested network error, in one line."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(getattr(error, "strerror", None) or error or type(error).__name__).split())[:300]


@contextmanager
def _failures(place: str, output: _Output) -> Iterator[None]:
    """Turn what the docker package raises into BuildFailed with the output so far."""
    from docker.errors import APIError, DockerException
    from requests import RequestException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except APIError as error:
        output.flush()
        raise _failed(place, str(error.explanation or error), output) from None
    except (DockerException, RequestException, HTTPError) as error:
        output.flush()
        raise _failed(place, f"the connection to the engine broke ({_reason(error)})", output) from None


def _failed(place: str, message: str, output: _Output) -> BuildFailed:
    cause = output.masked(" ".join(COLOURS.sub("", message).split()))
    cure = next((cure for pattern, cure in CURES if re.search(pattern, cause, re.IGNORECASE)), "")
    return BuildFailed(place, cause, cure, output.text())


def _follow(events: Iterable[Mapping[str, Any]], place: str, output: _Output) -> str:
    """Read a build's events to the end; the image's id. The id alone proves nothing: an error may come after it."""
    made = ""
    for event in events:
        if "error" in event:
            output.flush()
            raise _failed(place, str(event["error"]), output)
        if isinstance(event.get("aux"), dict):
            made = event["aux"].get("ID", made)
        output.write(_said(event))
    output.flush()
    if not made:
        raise _failed(place, "the engine ended the build without an image", output)
    return str(made)


def _said(event: Mapping[str, Any]) -> str:
    if "stream" in event:
        return str(event["stream"])
    # A pull tells each layer's progress many times a second: only the changes of state are lines.
    if "status" in event and not event.get("progressDetail"):
        return f"{event['id']}: {event['status']}\n" if event.get("id") else f"{event['status']}\n"
    return ""


def _cache_sources(client: Any, cache_from: Sequence[str], tag: str, output: _Output) -> list[str]:
    """The images of cache_from that are (or could be brought) there. None at all means the engine's whole cache."""
    found = [name for name in cache_from if _image_id(client, name) or _try_pull(client, name, output)]
    return [*found, tag] if found and _image_id(client, tag) else found


def _try_pull(client: Any, reference: str, output: _Output) -> bool:
    try:
        with _failures(reference, output):
            _pull(client, reference, None, output)
    except BuildlibError as error:
        output.write(f"cache_from: {error.place} is left out: {error.cause}\n")
        return False
    return True


def _pull(client: Any, reference: str, platform: str | None, output: _Output) -> str:
    for event in client.pull(reference, stream=True, decode=True, platform=platform):
        if "error" in event:
            raise _failed(reference, str(event["error"]), output)
        output.write(_said(event))
    found = _image_id(client, reference)
    if not found:
        raise _failed(reference, "the engine has no such image after the pull", output)
    return found


def _image_id(client: Any, reference: str) -> str | None:
    from docker.errors import ImageNotFound

    try:
        return str(client.inspect_image(reference)["Id"])
    except ImageNotFound:
        return None


def _tag(client: Any, image_id: str, reference: str) -> None:
    name, _, label = familiar(reference).rpartition(":")
    client.tag(image_id, name, label)
