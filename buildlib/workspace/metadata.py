"""One `pyproject.toml` read into a `Project`: PEP 621's table, Poetry's tables, uv's sources, PEP 518's build system.

Knows the formats. Does not know other projects, nor which dependencies are local.
"""

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from buildlib.errors import BuildlibError
from buildlib.workspace.config import RootConfig, read_project
from buildlib.workspace.model import Dependency, Project

POETRY = "poetry.core.masonry.api"
"""The backend that may run warm: with no build script, no code of the project runs in a build."""


def parse_toml(path: str, data: bytes) -> dict[str, Any]:
    """Return the parsed TOML file. Raises `BuildlibError` with file, line and cause."""
    import tomli

    try:
        return tomli.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BuildlibError(f"{path}:{line}", "not UTF-8", "save the file as UTF-8") from None
    except tomli.TOMLDecodeError as error:
        where = f"{path}:{error.lineno}" if getattr(error, "lineno", None) else path
        raise BuildlibError(where, f"not valid TOML ({error})", "mend the syntax") from None
    except RecursionError:
        raise BuildlibError(path, "nested too deeply", "flatten its tables") from None


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
        raise BuildlibError(place, f"a table has an unexpected shape ({error})", "see the pyproject.toml specification of PyPA") from None


def _project(path: str, place: str, raw: Mapping[str, Any], kind: str, root: RootConfig) -> Project:
    tool = _table(raw, "tool", place)
    project, poetry = _table(raw, "project", place), _table(tool, "poetry", place)
    main, optional = _dependencies(project, poetry, place)
    system = _table(raw, "build-system", place)
    return Project(
        name=_name(project, poetry, place),
        path=path,
        kind=kind,
        version=_string(project.get("version") or poetry.get("version") or "", f"{place}", "version"),
        requires_python=_requires_python(project, poetry),
        requires=tuple(text for text, _ in main),
        dependencies=tuple(dependency for _, dependency in main),
        optional=optional,
        declared_paths=dict(_declared_paths(path, poetry, _table(tool, "uv", place))),
        outside=tuple(_outside(path, project, poetry)),
        config=read_project(_table(tool, "buildlib", place), place, root),
        **_build_system(system, poetry, place),
    )


def _table(raw: Mapping[str, Any], key: str, place: str) -> Mapping[str, Any]:
    value = raw.get(key, {})
    if not isinstance(value, Mapping):
        raise BuildlibError(place, f"{key} is not a table", f"write it as [{key}]")
    return value


def _string(value: Any, place: str, key: str) -> str:
    if not isinstance(value, str):
        raise BuildlibError(place, f"{key} is not a string", f'write {key} = "…"')
    return value


def _name(project: Mapping[str, Any], poetry: Mapping[str, Any], place: str) -> str:
    from packaging.utils import InvalidName, canonicalize_name

    if not project and not poetry:
        raise BuildlibError(place, "no [project] table", "add one with name and version")
    name = project.get("name") or poetry.get("name")
    if not name:
        raise BuildlibError(place, "the project has no name", "add name to its [project] table")
    try:
        return canonicalize_name(_string(name, place, "name"), validate=True)
    except InvalidName:
        raise BuildlibError(place, f"{name!r} is no valid project name", "use letters, digits, '-', '_' and '.' (PEP 508)") from None


def _requires_python(project: Mapping[str, Any], poetry: Mapping[str, Any]) -> str:
    if "requires-python" in project:
        return str(project["requires-python"])
    python = poetry.get("dependencies", {}).get("python", "")
    return poetry_specifier(python if isinstance(python, str) else str(python.get("version", "")))


def poetry_specifier(constraint: str) -> str:
    """Return a Poetry version constraint as a PEP 440 specifier set (`^3.11` is `>=3.11,<4`); empty where it says nothing or too much."""
    if not constraint or "|" in constraint:
        return ""
    return ",".join(part for c in constraint.replace(" ", ",").split(",") if c and (part := _poetry_clause(c)))


def _poetry_clause(clause: str) -> str:
    if clause[0] not in "^~" or clause.startswith("~="):
        return "" if clause == "*" else clause if clause[0] in "<>=!~" else f"=={clause}"
    numbers = [int(n) for n in clause[1:].split(".")[:3] if n.isdigit()] or [0]
    place = next((i for i, n in enumerate(numbers) if n), 0) if clause[0] == "^" else min(1, len(numbers) - 1)
    upper = [*numbers[:place], numbers[place] + 1]
    return f">={clause[1:]},<{'.'.join(map(str, upper))}"


def _build_system(system: Mapping[str, Any], poetry: Mapping[str, Any], place: str) -> dict[str, Any]:
    if not system:
        return {}
    requires = system.get("requires")
    if not isinstance(requires, list) or not all(isinstance(r, str) for r in requires):
        raise BuildlibError(place, "build-system.requires is missing or no list of strings", 'write requires = ["…"] (PEP 518)')
    for requirement in requires:
        _parsed(requirement, place)
    backend = system.get("build-backend", Project.backend)
    paths = tuple(system.get("backend-path", ()))
    warm = backend == POETRY and not paths and "build" not in poetry
    return {"backend": backend, "backend_path": paths, "build_requires": tuple(requires), "warm": warm}


# -- dependencies


Requirements = list[tuple[str, Dependency]]


def _dependencies(
    project: Mapping[str, Any], poetry: Mapping[str, Any], place: str
) -> tuple[Requirements, dict[str, tuple[Dependency, ...]]]:
    main = [(text, _parsed(text, place)) for text in project.get("dependencies", ())]
    named = {d.name for _, d in main}
    in_poetry = list(_poetry_dependencies(poetry.get("dependencies", {}), place))
    main += [(text, d) for text, d, optional in in_poetry if not optional and d.name not in named]
    extras = {
        _normal(extra): tuple(_parsed(text, place) for text in texts)
        for extra, texts in {**poetry.get("extras", {}), **project.get("optional-dependencies", {})}.items()
    }
    return main, extras


def _parsed(text: str, place: str) -> Dependency:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(text)
    except InvalidRequirement:
        raise BuildlibError(place, f"{text!r} is no valid requirement", "write it as PEP 508 says") from None
    return Dependency(_normal(requirement.name), tuple(sorted(requirement.extras)), str(requirement.marker or ""))


def _poetry_dependencies(table: Mapping[str, Any], place: str) -> Iterator[tuple[str, Dependency, bool]]:
    for name, value in table.items():
        if _normal(name) == "python":
            continue
        for one in value if isinstance(value, list) else [value]:
            spec = one if isinstance(one, Mapping) else {"version": one}
            extras = tuple(sorted(spec.get("extras", ())))
            marker = str(spec.get("markers", ""))
            text = _normal(name) + (f"[{','.join(extras)}]" if extras else "") + (f"; {marker}" if marker else "")
            _parsed(text, place)
            yield text, Dependency(_normal(name), extras, marker), bool(spec.get("optional"))


def _normal(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _declared_paths(path: str, poetry: Mapping[str, Any], uv: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and directory (relative to the root) of every path dependency, development groups included."""
    groups = [g.get("dependencies", {}) for g in poetry.get("group", {}).values()]
    for table in (uv.get("sources", {}), poetry.get("dev-dependencies", {}), *groups, poetry.get("dependencies", {})):
        for name, value in table.items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, Mapping) and isinstance(one.get("path"), str):
                    yield _normal(name), posixpath.normpath(posixpath.join(path, one["path"]))


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
