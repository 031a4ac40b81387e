"""Small data sets for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gradprop.training import environment

environment.fix()  # before a test imports TensorFlow by itself

from gradprop import threads  # noqa: E402
from gradprop.components import datasets, own  # noqa: E402
from gradprop.components.datasets import Dataset  # noqa: E402
from tests.workspace import Workspace  # noqa: E402

# One process of tests per core: more threads would only wait for each other.
threads.keep_to_one()

# Fixtures that take up to a minute and that several tests work on, one after another.
SHARED = ("built", "grown")
# Rooms whose tests train, draw or start a browser; the others fill the time until all have ended.
LONG = ("training", "figures", "report", "claims")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Divide the tests among processes: those together that share something, the longest first.

    The tests of a file share compiled programs and fixtures, but for those of the studies.
    """
    for item in items:
        fixtures = getattr(item, "fixturenames", ()) if is_workflow(item) else ()
        shared = [name for name in SHARED if name in fixtures] or [item.path.stem]
        if item.path.stem != "test_studies":
            item.add_marker(pytest.mark.xdist_group(shared[0]))
    items.sort(key=lambda item: (not is_workflow(item), item.path.parent.name not in LONG))


def is_workflow(item: pytest.Item) -> bool:
    """Return whether a test starts the real Snakemake."""
    return item.get_closest_marker("workflow") is not None


@pytest.fixture(autouse=True)
def no_components_left() -> Iterator[None]:
    """Let the registries forget what a test read from a study's folder: others look at all."""
    before = own.loaded()
    yield
    for path in own.loaded() - before:
        own.forget(path)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Return a workspace in which the workflow has run once."""
    workspace = Workspace(tmp_path_factory.mktemp("workflow"))
    workspace.build()
    return workspace


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    """Return a classification set: 120 examples to train on, 7 features, 3 classes."""
    mixture = {"name": "gaussian_mixture", "examples": 150, "classes": 3, "dimension": 7}
    return datasets.generate(datasets.DATASETS.create({**mixture, "separation": 1.0}))


@pytest.fixture(scope="session")
def pair() -> Dataset:
    """Return a classification set of two classes: 120 examples to train on, 7 features."""
    mixture = {"name": "gaussian_mixture", "examples": 150, "classes": 2, "dimension": 7}
    return datasets.generate(datasets.DATASETS.create({**mixture, "separation": 1.0}))


@pytest.fixture(scope="session")
def teacher() -> Dataset:
    """Return a regression set: 120 examples to train on, 7 features, 5 targets."""
    teacher = {"name": "linear_teacher", "examples": 150, "dimension": 7, "outputs": 5}
    return datasets.generate(datasets.DATASETS.create(teacher))
