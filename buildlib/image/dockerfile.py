"""Reads a Dockerfile: its stages, the images it stands on, and what is likely to go wrong in it.

Knows the syntax (docs.docker.com, "Dockerfile reference") as far as these questions need it; instructions that are
none of their business are the engine's to judge. Pure: text in, values out; reads no file and asks no engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from buildlib.errors import BuildlibError

HEREDOC = re.compile(r"<<(-?)([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
DIRECTIVE = re.compile(r"#\s*(syntax|escape|check)\s*=\s*(\S*)\s*$", re.IGNORECASE)
# The bound keeps a text of many unclosed `${a:-` from taking quadratic time.
VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::([-+])([^}]{0,999}))?\})")
PIP_INSTALL = re.compile(r"\bpip[0-9.]*\s+(?:-\S+\s+)*install\s+([^&|;]*)")
BEGIN = "begin with `FROM IMAGE`, an image that has Python"
TOOLS = {"pip", "setuptools", "wheel", "uv"}  # not what a lock of a service holds
PINNING = "`COPY requirements.txt ./` and `RUN pip install --require-hashes -r requirements.txt` before the wheels, \
and `--no-deps` for the wheels"


@dataclass(frozen=True)
class Instruction:
    """One logical line: the word in capitals, its flags (`--from=x`), the rest in one line, and where it starts."""

    line: int
    word: str
    flags: tuple[str, ...]
    rest: str
    heredoc: bool = False

    def flag(self, name: str) -> str | None:
        start = f"--{name}="
        return next((flag.removeprefix(start) for flag in self.flags if flag.startswith(start)), None)


@dataclass(frozen=True)
class Stage:
    """From one FROM to the next; `base` as written, with its variables; `name` in small letters, or empty."""

    line: int
    base: str
    name: str
    body: tuple[Instruction, ...]


@dataclass(frozen=True)
class Dockerfile:
    """A Dockerfile as read: `place` is how errors name it, `args` the ARG lines before the first FROM."""

    place: str
    args: tuple[Instruction, ...]
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Hint:
    """Something to tell: printed as `PLACE: cause; cure`. `fatal`: the engine will refuse the build because of it."""

    place: str
    cause: str
    cure: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.place}: {self.cause}; {self.cure}"


def read(data: bytes, place: str) -> Dockerfile:
    """Parse a Dockerfile.

    Args:
        data: its bytes.
        place: its path, relative to the workspace root.

    Raises:
        BuildlibError: it is not UTF-8, has no FROM, or one of its FROM lines is malformed; the place names the line.
    """
    instructions = list(_instructions(_text(data, place)))
    first = next((number for number, item in enumerate(instructions) if item.word == "FROM"), None)
    if first is None:
        line = instructions[0].line if instructions else 1
        raise BuildlibError(f"{place}:{line}", "there is no FROM", BEGIN)
    for item in instructions[:first]:
        if item.word != "ARG":
            cause = f"{item.word[:40]} stands before the first FROM"
            raise BuildlibError(f"{place}:{item.line}", cause, "only ARG may; begin with `FROM IMAGE`")
    return Dockerfile(place, tuple(instructions[:first]), tuple(_stages(instructions[first:], place)))


def bases(dockerfile: Dockerfile, args: Mapping[str, str], target: str | None = None) -> tuple[str, ...]:
    """The images of others that a build up to `target` needs, in the order of first use.

    Includes those of stages that the target does not use: the classic builder makes every stage before it. Names of
    stages and `scratch` are left out. `args` are the build arguments; they count only where an ARG declares them.

    Raises:
        BuildlibError: a FROM whose variables give no image, or a target that is no stage.
    """
    values = _global_args(dockerfile.args, args)
    found: dict[str, None] = {}
    before: list[str] = []
    for stage in _up_to(dockerfile, target):
        base = _expand(stage.base, values)
        if not base.strip() or any(mark in base for mark in " \t"):
            cause = f"FROM {stage.base} gives no image name"
            cure = "give its ARG (before the first FROM) a default, or pass the build argument"
            raise BuildlibError(f"{dockerfile.place}:{stage.line}", cause, cure)
        if base != "scratch" and base.lower() not in before:
            found[base] = None
        for source in _copied_from(stage):
            if not source.isdecimal() and source.lower() not in before:
                found[source] = None
        before.append(stage.name)
    return tuple(found)


def hints(dockerfile: Dockerfile, *, has_local_wheels: bool, has_requirements: bool) -> tuple[Hint, ...]:
    """What to say about this Dockerfile, before the build (warnings) or when it failed (the fatal ones).

    Args:
        has_local_wheels: there is at least one `deps/*.whl` in the context.
        has_requirements: the service has third-party packages, so that `requirements.txt` is not empty.
    """
    body = [item for stage in dockerfile.stages for item in stage.body]
    found = [] if has_local_wheels else [_no_local_wheels(dockerfile.place, item) for item in body]
    found += [_out_of_context(dockerfile.place, item) for item in body]
    found += [_buildkit_only(dockerfile.place, item) for item in body]
    found.append(_unpinned(dockerfile.place, body, has_requirements))
    return tuple(sorted({hint for hint in found if hint}, key=lambda hint: (not hint.fatal, hint.place, hint.cause)))


# --- syntax -------------------------------------------------------------------------------------------------------


def _text(data: bytes, place: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BuildlibError(f"{place}:{line}", "this line is not UTF-8", "save the file as UTF-8") from None
    if not text.strip():
        raise BuildlibError(f"{place}:1", "the Dockerfile is empty", BEGIN)
    return text


def _escape(lines: Sequence[str]) -> str:
    """The escape character: directives are comments at the very top, nothing may stand before them."""
    for line in lines:
        directive = DIRECTIVE.match(line.strip())
        if not directive:
            break
        if directive[1].lower() == "escape" and directive[2] in ("`", "\\"):
            return directive[2]
    return "\\"


def _instructions(text: str) -> Iterator[Instruction]:
    lines = re.split(r"\r?\n", text)
    continued = re.compile(re.escape(_escape(lines)) + r"[ \t]*$")
    number = 0
    while number < len(lines):
        start, (words, number) = number, _logical(lines, number, continued)
        if words.strip():
            item = _instruction(start + 1, words)
            after = _after_heredocs(lines, number, item)
            yield Instruction(item.line, item.word, item.flags, item.rest, heredoc=after > number)
            number = after


def _logical(lines: Sequence[str], number: int, continued: re.Pattern[str]) -> tuple[str, int]:
    """One logical line and the number of the line after it; comments and empty lines inside it do not count."""
    parts: list[str] = []
    while number < len(lines):
        line, number = lines[number], number + 1
        if line.lstrip().startswith("#") or (parts and not line.strip()):
            if not parts:
                break
            continue
        parts.append(continued.sub("", line))
        if not continued.search(line):
            break
    return "".join(parts), number


def _instruction(line: int, words: str) -> Instruction:
    word, _, rest = words.strip().partition(" ")
    if "\t" in word:
        word, _, rest = words.strip().partition("\t")
    flags = []
    rest = rest.strip()
    while match := re.match(r"(--[a-zA-Z][\w-]*(?:=\S*)?)(?:\s+|$)", rest):
        flags.append(match[1])
        rest = rest[match.end() :]
    return Instruction(line, word.upper(), tuple(flags), rest)


def _after_heredocs(lines: Sequence[str], number: int, item: Instruction) -> int:
    """The line after the bodies of here-documents; one without an end is none (a `<<` of the shell's arithmetic)."""
    if item.word not in ("RUN", "COPY", "ADD"):
        return number
    for dash, _, end in HEREDOC.findall(item.rest):
        for after in range(number, len(lines)):
            if (lines[after].lstrip("\t") if dash else lines[after]) == end:
                number = after + 1
                break
    return number


def _stages(instructions: Sequence[Instruction], place: str) -> Iterator[Stage]:
    starts = [number for number, item in enumerate(instructions) if item.word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        item = instructions[start]
        words = item.rest.split()
        named = len(words) == 3 and words[1].upper() == "AS"
        if len(words) != 1 and not named:
            cause = f"FROM takes `IMAGE` or `IMAGE AS NAME`, not {item.rest[:80]!r}"
            raise BuildlibError(f"{place}:{item.line}", cause, "correct the line")
        name = words[2].lower() if named else ""
        yield Stage(item.line, words[0], name, tuple(instructions[start + 1 : end]))


# --- bases --------------------------------------------------------------------------------------------------------


def _up_to(dockerfile: Dockerfile, target: str | None) -> Sequence[Stage]:
    stages = dockerfile.stages
    if not target:
        return stages
    for number in range(len(stages) - 1, -1, -1):
        if stages[number].name == target.lower():
            return stages[: number + 1]
    if target.isdecimal() and target.isascii() and len(target) < 6 and int(target) < len(stages):
        return stages[: int(target) + 1]
    names = ", ".join(stage.name for stage in stages if stage.name) or "none has a name"
    raise BuildlibError(dockerfile.place, f"there is no stage {target!r}", f"its stages: {names}")


def _copied_from(stage: Stage) -> Iterator[str]:
    for item in stage.body:
        source = item.flag("from") if item.word == "COPY" else None
        if source:
            yield source
        for mount in item.flags if item.word == "RUN" else ():
            named = re.search(r"^--mount=(?:.*,)?from=([^,]+)", mount)
            if named:
                yield named[1]


def _global_args(declared: Sequence[Instruction], given: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in declared:
        for word in re.findall(r"(?:[^\s\"']|\"[^\"]*\"|'[^']*')+", item.rest):
            name, equals, default = word.partition("=")
            if name in given:
                values[name] = given[name]
            elif equals:
                values[name] = _expand(re.sub(r"[\"']", "", default), values)
    return values


def _expand(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        held = values.get(match[1] or match[2], "")
        if match[3] == "-":
            return held or _expand(match[4], values)
        if match[3] == "+":
            return _expand(match[4], values) if held else ""
        return held

    return VARIABLE.sub(value, text)


# --- hints --------------------------------------------------------------------------------------------------------


def _words(item: Instruction) -> list[str]:
    return [word.strip("\"'") for word in item.rest.strip("[]").replace(",", " ").split()]


def _sources(item: Instruction) -> list[str]:
    return [word.removeprefix("./").removeprefix("/") for word in _words(item)[:-1]]


def _copies_context(item: Instruction) -> bool:
    return item.word in ("COPY", "ADD") and not item.flag("from") and not item.heredoc


def _out_of_context(place: str, item: Instruction) -> Hint | None:
    """A path that starts at the service's folder; whoever writes it sees `dist/` there."""
    sources = _sources(item)
    meant = [re.sub(r"^dist(?:/|$)", "", source) or "." for source in sources]
    if not _copies_context(item) or meant == [source or "." for source in sources]:
        return None
    cause = f"`{item.word} {' '.join(sources)}` finds nothing: the build context is the service's dist/ itself"
    cure = f"write `{' '.join((item.word, *item.flags, *meant, _words(item)[-1]))}`"
    return Hint(f"{place}:{item.line}", cause, cure, fatal=True)


def _no_local_wheels(place: str, item: Instruction) -> Hint | None:
    sources = _sources(item)
    if not _copies_context(item) or not sources or not all(re.match(r"deps(/.*)?$", source) for source in sources):
        return None
    cause = f"`{item.word} {' '.join(sources)}` finds nothing: this service uses no local library"
    cure = "remove the line, or add a file that is always there: `COPY requirements.txt deps/*.whl ./`"
    return Hint(f"{place}:{item.line}", cause, cure, fatal=True)


def _buildkit_only(place: str, item: Instruction) -> Hint | None:
    flags = [flag for flag in item.flags if re.match(r"--(mount|network|security|link|exclude|parents|chmod)\b", flag)]
    if item.heredoc:
        flags.append("a here-document")
    if not flags or item.word not in ("RUN", "COPY", "ADD"):
        return None
    cause = f"{item.word} with {flags[0]} needs BuildKit; images are built by the engine's classic builder"
    return Hint(f"{place}:{item.line}", cause, "write the step without it", fatal=True)


@dataclass(frozen=True)
class _Install:
    """What the pip installs of a Dockerfile take: requirements files, wheels (with their dependencies), names."""

    line: int
    requirements: bool
    wheels: bool
    names: tuple[str, ...]


def _unpinned(place: str, body: Sequence[Instruction], has_requirements: bool) -> Hint | None:
    found = [install for item in body if item.word == "RUN" for install in _installs(item)]
    if any(install.requirements for install in found):
        return None
    for install in found:
        if install.names or (has_requirements and install.wheels):
            what = f"pip installs {', '.join(install.names[:3])}" if install.names else "pip installs the wheels"
            cause = f"{what} without requirements.txt: third-party versions are not those of the lock, not checked"
            return Hint(f"{place}:{install.line}", cause, PINNING, fatal=False)
    return None


def _installs(item: Instruction) -> Iterator[_Install]:
    text = re.sub(r"[\"',\[\]]", " ", item.rest) if item.rest.startswith("[") else item.rest
    for arguments in PIP_INSTALL.findall(text):
        words = [word.strip("\"'") for word in arguments.split()]
        requirements = any(re.match(r"-r|--requirement", word) for word in words)
        wheels = any(word.endswith(".whl") for word in words) and "--no-deps" not in words
        yield _Install(item.line, requirements, wheels, tuple(_names(words)))


def _names(words: Sequence[str]) -> Iterator[str]:
    """Arguments that are names of packages: not options, not their values, not files."""
    takes_value = {"-c", "-t", "-i", "-f", "-e", "-r", "--target", "--index-url", "--extra-index-url", "--find-links"}
    takes_value |= {"--constraint", "--requirement", "--prefix", "--root", "--editable", "--no-binary", "--only-binary"}
    for before, word in zip(["", *words], words, strict=False):
        name = re.match(r"[A-Za-z0-9][\w.-]*", word)
        is_file = "/" in word or word.endswith((".whl", ".txt", ".gz"))
        if name and before not in takes_value and not is_file and name[0].lower() not in TOOLS:
            yield word
