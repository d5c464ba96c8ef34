"""Configuration: the `[tool.buildlib]` tables of the root and of each project, checked once, here.

An unknown key is an error that names the nearest known one. Knows keys, types and defaults. Does not know files or
projects.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import UnionType
from typing import Any, get_args, get_origin

from buildlib.errors import BuildlibError


@dataclass(frozen=True)
class ImageConfig:
    """`[tool.buildlib.image]`; a project's own table overrides the root's key by key.

    Attributes:
        base: what an assembled image stands on (`"host"` or a reference).
        python: Python of the image, `3.12` or `3.12.4`; empty: `.python-version`, else the tool's own.
        platforms: OCI `os/architecture` words.
        registry, tags: where and under which names images are pushed.
        files: extra files of an assembled image, source → destination.
        dockerfile: the Dockerfile, from the project's folder.
        args: build arguments of a Dockerfile, by name.
        secrets: names of environment variables passed as build arguments; their values are never recorded or shown.
        target: the stage of a Dockerfile to build; empty: the last.
        cache_from: images whose layers the engine may reuse.
    """

    base: str = ""
    python: str = ""
    platforms: tuple[str, ...] = ("linux/amd64",)
    registry: str = ""
    tags: tuple[str, ...] = ("{git_sha}", "latest")
    files: Mapping[str, str] = field(default_factory=dict)
    dockerfile: str = "Dockerfile"
    args: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    target: str = ""
    cache_from: tuple[str, ...] = ()


@dataclass(frozen=True)
class RootConfig:
    """`[tool.buildlib]` of the root: globs of project directories, and what all projects share.

    Attributes:
        libs, services: globs; None where they are not configured (where one is, the other has its default).
        lock: what is done where a service needs third-party packages and has no lock: `auto` makes one with uv.
        image: settings of all images.
    """

    libs: tuple[str, ...] | None = None
    services: tuple[str, ...] | None = None
    lock: str = ""
    image: ImageConfig = ImageConfig()


LIBS, SERVICES = ("libs/*",), ("services/*",)
"""The default globs, where only the other kind's are configured."""


@dataclass(frozen=True)
class ProjectConfig:
    """`[tool.buildlib]` of a project: further inputs (globs from its folder), the test command; lock and image as the
    root's, key by key."""

    inputs: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    lock: str = ""
    image: ImageConfig = ImageConfig()


def read_root(table: Mapping[str, Any], place: str) -> RootConfig:
    """Check the root's `[tool.buildlib]`. Raises `BuildlibError`, naming the key."""
    values = _checked(RootConfig, table, place, "tool.buildlib")
    image = _image(ImageConfig(), values.pop("image", {}), place)
    for key in ("libs", "services"):
        for pattern in values.get(key, ()):
            if posixpath.normpath(pattern).startswith(("/", "..")) or not pattern:
                cause = f"tool.buildlib.{key} names {pattern!r}, which is no place in the workspace"
                raise BuildlibError(place, cause, "write globs of directories below the root")
    return RootConfig(image=image, **values)


def read_project(table: Mapping[str, Any], place: str, root: RootConfig) -> ProjectConfig:
    """Check a project's `[tool.buildlib]`, on top of the root's image settings. Raises `BuildlibError` with the key."""
    values = {"lock": root.lock, **_checked(ProjectConfig, table, place, "tool.buildlib")}
    return ProjectConfig(image=_image(root.image, values.pop("image", {}), place), **values)


def _image(default: ImageConfig, table: Any, place: str) -> ImageConfig:
    if not isinstance(table, Mapping):
        raise _wrong(place, "tool.buildlib.image", "a table")
    return replace(default, **_checked(ImageConfig, table, place, "tool.buildlib.image"))


def _checked(kind: type, table: Mapping[str, Any], place: str, where: str) -> dict[str, Any]:
    known = {f.name: f for f in fields(kind)}
    for key in table:
        if key not in known:
            raise unknown_key(place, f"{where}.{key}", key, list(known))
    values = {key: _typed(known[key].type, value, place, f"{where}.{key}") for key, value in table.items()}
    if values.get("lock", "") not in ("", "auto"):
        raise BuildlibError(place, f"{where}.lock is {values['lock']!r}", 'write lock = "auto", or leave it out')
    return values


def _typed(kind: Any, value: Any, place: str, where: str) -> Any:
    """Return `value` as its field has it: a tuple, a table or a string; a table of our own is checked by its reader."""
    kind = get_args(kind)[0] if isinstance(kind, UnionType) else kind  # or None: not configured
    wanted = get_origin(kind) or kind
    if wanted is tuple:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise _wrong(place, where, 'a list of strings, such as ["a", "b"]')
        return tuple(value)
    if wanted is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
            raise _wrong(place, where, "a table of strings")
        return dict(value)
    if wanted is str and not isinstance(value, str):
        raise _wrong(place, where, "a string")
    return value


def _wrong(place: str, where: str, wanted: str) -> BuildlibError:
    return BuildlibError(place, f"{where} has the wrong type", f"write {wanted}")


def unknown_key(place: str, where: str, key: str, known: list[str]) -> BuildlibError:
    """Return the error for a key nobody reads, with the nearest known one as its cure."""
    import difflib

    near = difflib.get_close_matches(key, known, 1, 0.4)
    cure = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(known))}"
    return BuildlibError(place, f"unknown key {where}", cure)
