"""What all tests share: one cache of build environments, and tiny worlds."""

from collections.abc import Callable
from pathlib import Path

import pytest
from world import World

pytest_plugins = ("docker_engine",)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache directory of the session: environments and downloads are made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def world(tmp_path: Path, cache: Path) -> World:
    """Return an empty workspace with no store: nothing is fetched."""
    return World(tmp_path / "workspace", cache)


@pytest.fixture
def worlds(tmp_path: Path, cache: Path) -> Callable[..., World]:
    """Return a maker of workspaces, by name, that share one store."""
    return lambda name, **options: World(tmp_path / name, cache, **{"store": tmp_path / "store", **options})


@pytest.fixture
def chain(world: World) -> World:
    """Return a world where svc needs app, app needs base, and other stands alone; built once."""
    world.library("base")
    world.library("app", "base")
    world.library("other")
    world.service("svc", "app")
    world.commit()
    world.good()
    return world
