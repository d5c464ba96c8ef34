"""One `pyproject.toml` read into a `Project`: PEP 621's table, Poetry's tables, uv's sources, PEP 518's build system.

Knows the formats. Does not know other projects, nor which dependencies are local.
"""

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig, read_project
from buildlib.workspace.locks.poetry import specifiers
from buildlib.workspace.model import Dependency, Project

POETRY = "poetry.core.masonry.api"
"""The backend that may run warm: with no build script, no code of the project runs in a build."""

ARCHIVES = (".whl", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip")
"""How the names of distributions end: a path dependency that ends so is a file, never a project."""


def parse_toml(path: str, data: bytes) -> dict[str, Any]:
    """Return the parsed TOML file. Raises `BuildlibError` with file, line and cause."""
    import tomli

    try:
        # A byte order mark is no TOML, but every tool of Python's packaging lets it pass or says nothing useful of it.
        return tomli.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BuildlibError(f"{path}:{line}", "not UTF-8", "save the file as UTF-8") from None
    except tomli.TOMLDecodeError as error:
        where = f"{path}:{error.lineno}" if getattr(error, "lineno", None) else path
        raise BuildlibError(where, f"not valid TOML ({error})", "mend the syntax") from None
    except RecursionError:
        raise BuildlibError(path, "nested too deeply", "flatten its tables") from None
    except ValueError as error:  # tomli lets a few of Python's own through (a number of 5,000 digits, the year 0)
        raise BuildlibError(path, f"not valid TOML ({error})", "mend the syntax") from None


def likely_name(path: str, data: bytes) -> str:
    """Return the name of a project whose `pyproject.toml` cannot be read: its first `name = "…"`, else its directory's.

    Its dependents must not take it for somebody else's package meanwhile.
    """
    said = re.search(rb"""^[ \t]*name[ \t]*=[ \t]*["']([A-Za-z0-9._-]+)["']""", data, re.MULTILINE)
    return _normal(said[1].decode() if said else posixpath.basename(path) or "root")


def with_requires(project: Project, requires: Iterable[str]) -> Project:
    """Return `project` with these PEP 508 strings as its dependencies; those of an extra have `extra == "…"` in their
    marker (as core metadata's Requires-Dist). Raises `BuildlibError` if one is none."""
    main: list[str] = []
    optional: dict[str, list[Dependency]] = {}
    for text in requires:
        needed = _parsed(text, project.pyproject)
        extras = _EXTRAS.findall(needed.marker)
        for extra in map(_normal, extras):
            optional.setdefault(extra, []).append(needed)
        main += [] if extras else [text]
    return replace(
        project,
        requires=tuple(main),
        dependencies=tuple(_parsed(text, project.pyproject) for text in main),
        optional={extra: tuple(needed) for extra, needed in sorted(optional.items())},
    )


_EXTRAS = re.compile(r"""\bextra\s*==\s*["']([^"']+)["']""")


def read_metadata(path: str, data: bytes, kind: str, root: RootConfig) -> Project:
    """Return the project whose `pyproject.toml` is `data`.

    Args:
        path: the project's directory, relative to the root.
        data: the file's bytes.
        kind: `library` or `service`.
        root: the root's configuration, which the project's own overrides.

    Raises:
        BuildlibError: anything wrong with the file, with its place and cure.
    """
    place = f"{path}/pyproject.toml" if path else "pyproject.toml"
    raw = parse_toml(place, data)
    try:
        return _project(path, place, raw, kind, root)
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        cause = f"a table has an unexpected shape ({error})"
        raise BuildlibError(place, cause, "see the pyproject.toml specification of PyPA") from None


def _project(path: str, place: str, raw: Mapping[str, Any], kind: str, root: RootConfig) -> Project:
    tool = _table(raw, "tool", place)
    _table(_table(tool, "uv", place), "sources", place)
    project, poetry = _table(raw, "project", place), _table(tool, "poetry", place)
    main, optional = _dependencies(project, poetry, place)
    system = _table(raw, "build-system", place)
    return Project(
        name=_name(path, project, poetry, place),
        path=path,
        kind=kind,
        package=(package := _is_package(raw, tool, project, poetry)),
        version="" if "poetry-dynamic-versioning" in tool else _version(project, poetry, package, place),
        dynamic=_dynamic(project, poetry, place),
        requires_python=_requires_python(project, poetry, place),
        requires=tuple(text for text, _ in main),
        dependencies=tuple(dependency for _, dependency in main),
        optional=optional,
        declared_paths=dict(_declared_paths(path, _every_requirement(project, raw), poetry, _table(tool, "uv", place))),
        members=frozenset(_members(_table(tool, "uv", place))),
        outside=tuple(_outside(path, project, poetry)),
        config=read_project(_own_settings(path, _table(tool, "buildlib", place)), place, root),
        **_build_system(system, project, poetry, place),
    )


def _own_settings(path: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    # A root that is itself a project has the workspace's keys in the same table; they were checked as such.
    return table if path else {key: value for key, value in table.items() if key not in ("libs", "services")}


def _table(raw: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise BuildlibError(place, f"{key} is not a table", f"write it as [{key}]")
    return value


def _string(value: Any, place: str, key: str) -> str:
    if not isinstance(value, str):
        raise BuildlibError(place, f"{key} is not a string", f'write {key} = "…"')
    return value


def _name(path: str, project: Mapping[str, Any], poetry: Mapping[str, Any], place: str) -> str:
    from packaging.utils import InvalidName, canonicalize_name

    if not project and not poetry:
        raise BuildlibError(place, "no [project] table", "add one with name and version")
    name = project.get("name") or poetry.get("name")
    if not (name or project) and poetry.get("package-mode") is False:
        name = likely_name(path, b"")  # Poetry wants a name of packages only
    if not name:
        raise BuildlibError(place, "the project has no name", "add name to its [project] table")
    try:
        return canonicalize_name(_string(name, place, "name"), validate=True)
    except InvalidName:
        cause = f"{name!r} is no valid project name"
        raise BuildlibError(place, cause, "use letters, digits, '-', '_' and '.' (PEP 508)") from None


def _is_package(
    raw: Mapping[str, Any], tool: Mapping[str, Any], project: Mapping[str, Any], poetry: Mapping[str, Any]
) -> bool | None:
    """Return what `package` (uv), `package-mode` (Poetry), else the build system says; None where nobody says it.

    Poetry builds what has no build system too.
    """
    said = tool.get("uv", {}).get("package", poetry.get("package-mode"))
    if isinstance(said, bool):
        return said
    return True if "build-system" in raw or (poetry and not project) else None


def _version(project: Mapping[str, Any], poetry: Mapping[str, Any], package: bool | None, place: str) -> str:
    """Return the version that the metadata says; empty where the backend works it out, and where nobody needs one."""
    from packaging.version import InvalidVersion, Version

    if "version" in project.get("dynamic", ()):
        return ""
    version = _string(project.get("version") or poetry.get("version") or "", place, "version")
    if package and project and not version:
        raise BuildlibError(place, "[project] has no version", 'add version = "…", or list it in dynamic')
    try:
        Version(version or "0")
    except InvalidVersion:
        raise BuildlibError(place, f"version {version!r} is none", 'write one like "1.2.0" (PEP 440)') from None
    return version


def _dynamic(project: Mapping[str, Any], poetry: Mapping[str, Any], place: str) -> frozenset[str]:
    """Return what `[project]` leaves to the backend, without what Poetry's tables say: those need no backend."""
    fields = {"dependencies": "dependencies", "optional-dependencies": "extras"}
    dynamic = _strings(project.get("dynamic", []), place, "dynamic")
    return frozenset(field for field in dynamic if fields.get(field) not in poetry)


def _requires_python(project: Mapping[str, Any], poetry: Mapping[str, Any], place: str) -> str:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    if "requires-python" in project:
        text, key = project["requires-python"], "requires-python"
    else:
        text, key = poetry.get("dependencies", {}).get("python", ""), "tool.poetry.dependencies.python"
        text = text.get("version", "") if isinstance(text, Mapping) else text
    try:
        text = _string(text, place, key)
        alternatives = [text] if key == "requires-python" else specifiers(text)
        for alternative in alternatives:
            SpecifierSet(alternative)
    except (InvalidSpecifier, ValueError):
        cause = f"{key} {text!r} is no version specifier"
        raise BuildlibError(place, cause, 'write one like ">=3.11" (PEP 440)') from None
    return "" if "" in alternatives else " || ".join(alternatives)


def _build_system(
    system: Mapping[str, Any], project: Mapping[str, Any], poetry: Mapping[str, Any], place: str
) -> dict[str, Any]:
    if not system and poetry and not project:  # PEP 518's default would not read Poetry's table
        system = {"requires": ["poetry-core"], "build-backend": POETRY}
    if not system:
        return {}
    requires = _strings(system.get("requires"), place, "build-system.requires")
    for requirement in requires:
        _parsed(requirement, place)
    backend = _string(system.get("build-backend", Project.backend), place, "build-system.build-backend")
    paths = _strings(system.get("backend-path", []), place, "build-system.backend-path")
    warm = backend == POETRY and not paths and "build" not in poetry
    return {"backend": backend, "backend_path": paths, "build_requires": requires, "warm": warm}


def _strings(value: Any, place: str, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        cause = f"{key} is missing" if value is None else f"{key} is no list of strings"
        raise BuildlibError(place, cause, f'write {key.rpartition(".")[2]} = ["…"]')
    return tuple(value)


# -- dependencies


Requirements = list[tuple[str, Dependency]]


def _dependencies(
    project: Mapping[str, Any], poetry: Mapping[str, Any], place: str
) -> tuple[Requirements, dict[str, tuple[Dependency, ...]]]:
    main = [(text, _parsed(text, place)) for text in _strings(project.get("dependencies", []), place, "dependencies")]
    optional = _table(project, "optional-dependencies", place)
    # As poetry-core has it: of what `[project]` lists, Poetry's table only says more, unless it is said to be dynamic.
    if "dependencies" in project.get("dynamic", ()) or not (main or optional):
        named = {d.name for _, d in main}
        in_poetry = _poetry_dependencies(_table(poetry, "dependencies", place), place)
        main += [(text, d) for text, d, is_optional in in_poetry if not is_optional and d.name not in named]
    extras = {
        _normal(extra): tuple(_parsed(text, place) for text in _strings(texts, place, f"the extra {extra}"))
        for extra, texts in {**_table(poetry, "extras", place), **optional}.items()
    }
    return main, extras


def _parsed(text: str, place: str) -> Dependency:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise BuildlibError(place, f"{text!r} is no valid requirement", "write it as PEP 508 says") from None
    extras, marker = tuple(sorted(map(_normal, requirement.extras))), str(requirement.marker or "")
    return Dependency(_normal(requirement.name), extras, marker, str(requirement.specifier), requirement.url or "")


def _poetry_dependencies(table: Mapping[str, Any], place: str) -> Iterator[tuple[str, Dependency, bool]]:
    for name, value in table.items():
        if _normal(name) == "python":
            continue
        for one in value if isinstance(value, list) else [value]:
            spec = one if isinstance(one, Mapping) else {"version": one}
            extras = tuple(sorted(_strings(spec.get("extras", []), place, f"extras of {name}")))
            marker = _poetry_marker(spec)
            text = _normal(name) + (f"[{','.join(extras)}]" if extras else "") + _poetry_versions(spec)
            text += f"; {marker}" if marker else ""
            yield text, _parsed(text, place), bool(spec.get("optional"))


def _poetry_versions(spec: Mapping[str, Any]) -> str:
    """Return the version constraint of one of Poetry's dependencies as PEP 440 says it; nothing where that cannot."""
    alternatives = specifiers(str(spec.get("version", "")))
    return alternatives[0] if len(alternatives) == 1 else ""


def _poetry_marker(spec: Mapping[str, Any]) -> str:
    """Return the marker of one of Poetry's dependencies: `markers`, `python` and `platform` all have to hold."""
    found = [f"({spec['markers']})"] if spec.get("markers") else []
    alternatives = [_python_marker(clauses) for clauses in specifiers(str(spec.get("python", "")))]
    if all(alternatives):
        found.append(f"({' or '.join(alternatives)})")
    if spec.get("platform"):
        found.append(f"sys_platform == '{spec['platform']}'")
    return " and ".join(found)


def _python_marker(clauses: str) -> str:
    each = (re.fullmatch(r"([<>=!~]+)(.*)", clause) for clause in clauses.split(",") if clause)
    return " and ".join(f"python_full_version {found[1]} '{found[2]}'" for found in each if found)


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _every_requirement(project: Mapping[str, Any], raw: Mapping[str, Any]) -> Iterator[str]:
    """Yield all PEP 508 strings of a pyproject: main, by extra, by group (PEP 735)."""
    optional, groups = project.get("optional-dependencies", {}), raw.get("dependency-groups", {})
    for texts in (project.get("dependencies", ()), *optional.values(), *groups.values()):
        yield from (text for text in texts if isinstance(text, str))


_PLACED = re.compile(
    r"\s*([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*@\s*(?:file:)?(?://)?/?"
    r"(\{root(?::parent)*:uri\}|\$\{PROJECT_ROOT\}|\.\.?(?=/))([^\s;]*)"
)
"""A requirement by place, relative to its project: hatch's `{root:uri}`, PDM's `${PROJECT_ROOT}`, `file:../x`."""


def _declared_paths(
    path: str, requirements: Iterable[str], poetry: Mapping[str, Any], uv: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield name and directory (relative to the root) of every path dependency, development groups included."""
    groups = [g.get("dependencies", {}) for g in poetry.get("group", {}).values()]
    for table in (uv.get("sources", {}), poetry.get("dev-dependencies", {}), *groups, poetry.get("dependencies", {})):
        for name, value in table.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Mapping) and isinstance(one.get("path"), str) and not one["path"].endswith(ARCHIVES):
                    yield _normal(name), _place(path, one["path"])
    for text in requirements:
        if (placed := _PLACED.match(text)) and not placed[3].endswith(ARCHIVES):
            above = placed[2] + "/" if placed[2].startswith(".") else "../" * placed[2].count(":parent")
            yield _normal(placed[1]), _place(path, above + placed[3].lstrip("/"))


def _place(path: str, relative: str) -> str:
    """Return where `relative` leads from the directory `path`, relative to the root (which is "")."""
    place = posixpath.normpath(posixpath.join(path, relative))
    return "" if place == "." else place


def _members(uv: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names that uv looks for among the members of its workspace."""
    for name, value in uv.get("sources", {}).items():
        every = value if isinstance(value, list) else [value]
        if any(isinstance(one, Mapping) and one.get("workspace") is True for one in every):
            yield _normal(name)


# -- files outside


def _outside(path: str, project: Mapping[str, Any], poetry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the files outside the project's folder that its metadata names (readme, license), relative to the root."""
    for name in _named_files(project, poetry):
        place = posixpath.normpath(posixpath.join(path, name))
        inside = not path or place.startswith(f"{path}/")
        if not inside and not place.startswith(("../", "/")):
            yield place


def _named_files(project: Mapping[str, Any], poetry: Mapping[str, Any]) -> Iterable[str]:
    readme, license_ = project.get("readme"), project.get("license")
    poetry_readme = poetry.get("readme", [])
    names = [readme if isinstance(readme, str) else (readme or {}).get("file")]
    names += [license_.get("file")] if isinstance(license_, Mapping) else []
    names += poetry_readme if isinstance(poetry_readme, list) else [poetry_readme]
    return [n for n in names if isinstance(n, str)]
