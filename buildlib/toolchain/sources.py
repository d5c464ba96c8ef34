"""Where packages come from, in uv's variables: as those say, else a user's `uv.toml`, else pip's variables and files.

Reads files of the user and the system, never of the workspace; runs nothing. Knows no lock and no requirement.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

# uv's word → (pip's word, uv's other words for the same, what stands between two values)
WORDS = {
    "UV_DEFAULT_INDEX": ("index-url", ("UV_INDEX_URL",), " "),
    "UV_EXTRA_INDEX_URL": ("extra-index-url", ("UV_INDEX",), " "),
    "UV_FIND_LINKS": ("find-links", (), ","),
    "UV_INSECURE_HOST": ("trusted-host", (), " "),
    "SSL_CERT_FILE": ("cert", (), " "),
    "SSL_CLIENT_CERT": ("client-cert", (), " "),
    "ALL_PROXY": ("proxy", ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy", "all_proxy"), " "),
}
SAME = {"UV_DEFAULT_INDEX": ("UV_INDEX_URL",), "UV_EXTRA_INDEX_URL": ("UV_INDEX",), "UV_INDEX": ("UV_EXTRA_INDEX_URL",)}
PLACES = ("UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


def sources(environ: Mapping[str, str], folders: bool = True) -> dict[str, str]:
    """The variables to add to `environ` so that uv finds what pip would.

    Folders of this machine that do not exist are left out (uv stops at one, pip goes on). Of several indexes the first
    that has a fitting version wins, the extra ones before the main one: unlike with pip, a newer package of the same
    name on the public index does not take a private one's place. Without `folders`, none of this machine's are named.
    """
    said = settings(environ)
    found = _of_uv(environ)
    for word, (pips, synonyms, between) in WORDS.items():
        if pips in said and not any(environ.get(name) or name in found for name in (word, *synonyms)):
            values = said[pips].split() if word in PLACES else [said[pips].strip()]
            if word in PLACES:
                values = [_absolute(value) for value in values if _is_url(value) or (folders and _is_there(value))]
            found[word] = between.join(values)
    bundle = environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE")  # pip's, through requests
    if bundle and "SSL_CERT_FILE" not in found and not environ.get("SSL_CERT_FILE"):
        found["SSL_CERT_FILE"] = bundle
    if found.get("UV_EXTRA_INDEX_URL") and not environ.get("UV_INDEX_STRATEGY"):
        found["UV_INDEX_STRATEGY"] = "unsafe-first-match"
    return {word: value for word, value in found.items() if value}


def no_index(environ: Mapping[str, str]) -> bool:
    """Whether uv or pip is told to look at no index; uv has no variable for it."""
    if _uv_settings(environ).get("no-index") is True:
        return True
    return settings(environ).get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t")


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """pip's settings by their long option names (`index-url`): its files in its order, then its `PIP_*` variables."""
    said: dict[str, str] = {}
    for path in _files(environ):
        said |= _read(path)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            said[_option(name[4:])] = value
    return said


def _files(environ: Mapping[str, str]) -> Iterator[str]:
    """pip's configuration files, the last word last (pip's documentation, "Configuration", "Location")."""
    chosen = environ.get("PIP_CONFIG_FILE", "")
    if chosen == os.devnull:
        return
    home = environ.get("HOME") or os.path.expanduser("~")
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    if sys.platform == "darwin":
        yield "/Library/Application Support/pip/pip.conf"
    for folder in reversed((environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")):
        yield os.path.join(folder, "pip", "pip.conf")
    yield "/etc/pip.conf"
    if not (chosen and os.path.exists(chosen)):
        yield os.path.join(home, ".pip", "pip.conf")
        yield os.path.join(config, "pip", "pip.conf")
        if sys.platform == "darwin":
            yield os.path.join(home, "Library", "Application Support", "pip", "pip.conf")
    yield os.path.join(environ.get("VIRTUAL_ENV") or sys.prefix, "pip.conf")
    if chosen:
        yield chosen


def _of_uv(environ: Mapping[str, str]) -> dict[str, str]:
    """What a user's `uv.toml` says about sources, where no variable says it. (uv itself runs with `--no-config`.)"""
    said = _uv_settings(environ)
    known = [index for index in said.get("index", ()) if isinstance(index, dict) and not index.get("explicit")]
    urls = [(f"{index['name']}=" if "name" in index else "") + str(index.get("url", "")) for index in known]
    defaults = [url for url, index in zip(urls, known, strict=True) if index.get("default")]
    found = {
        "UV_DEFAULT_INDEX": defaults[0] if defaults else said.get("index-url"),
        "UV_INDEX": " ".join(url for url in urls if url not in defaults),
        "UV_EXTRA_INDEX_URL": _joined(said.get("extra-index-url"), " "),
        "UV_FIND_LINKS": _joined(said.get("find-links"), ","),
        "UV_INDEX_STRATEGY": said.get("index-strategy"),
        "UV_KEYRING_PROVIDER": said.get("keyring-provider"),
        "UV_INSECURE_HOST": _joined(said.get("allow-insecure-host"), " "),
        "UV_SYSTEM_CERTS": "1" if True in (said.get("system-certs"), said.get("native-tls")) else "",
    }
    return {
        word: value
        for word, value in found.items()
        if isinstance(value, str) and value and not any(environ.get(name) for name in (word, *SAME.get(word, ())))
    }


def _uv_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """The system's and the user's `uv.toml`, the user's last, `[pip]` before the rest (uv: "Configuration files")."""
    import tomli

    home = environ.get("HOME") or os.path.expanduser("~")
    said: dict[str, Any] = {}
    for folder in ("/etc", environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")):
        try:
            with open(os.path.join(folder, "uv", "uv.toml"), "rb") as file:
                said |= tomli.load(file)
        except (OSError, ValueError):
            continue
    table = said.get("pip")
    return said | table if isinstance(table, dict) else said


def _joined(value: Any, between: str) -> str:
    return between.join(map(str, value)) if isinstance(value, list) else ""


def _read(path: str) -> dict[str, str]:
    """The settings of one file; none if it is missing or no configuration: pip's own trouble stays pip's."""
    if not os.path.isfile(path):
        return {}
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}
    said: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            said |= {_option(name): value for name, value in parser.items(section) if value}
    return said


def _option(name: str) -> str:
    return name.lower().replace("_", "-").removeprefix("--")


def _is_url(place: str) -> bool:
    """Whether it is somewhere else than in a folder of this machine."""
    return "://" in place and not place.startswith("file:")


def _is_there(place: str) -> bool:
    return os.path.isdir(_folder(place))


def _absolute(place: str) -> str:
    return place if ":" in place else _folder(place)


def _folder(place: str) -> str:
    """The folder that a path or a `file:` URL names."""
    if not place.startswith("file:"):
        return os.path.abspath(os.path.expanduser(place))
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(place).path)
