"""Small data sets for all tests."""

from __future__ import annotations

import pytest

from gradprop import environment

environment.fix()  # before a test imports TensorFlow by itself

from gradprop import datasets  # noqa: E402
from gradprop.datasets import Dataset  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let several processes share the studies, which take longest; other files stay together.

    The tests of a file share fixtures and compiled programs; those of the studies do not.
    """
    for item in items:
        if item.path.stem != "test_studies":
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    """Return a classification set: 120 examples to train on, 7 features, 3 classes."""
    mixture = {"name": "gaussian_mixture", "examples": 150, "classes": 3, "dimension": 7}
    return datasets.generate(datasets.create({**mixture, "separation": 1.0}))


@pytest.fixture(scope="session")
def teacher() -> Dataset:
    """Return a regression set: 120 examples to train on, 7 features, 5 targets."""
    teacher = {"name": "linear_teacher", "examples": 150, "dimension": 7, "outputs": 5}
    return datasets.generate(datasets.create(teacher))


@pytest.fixture
def shared_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job run in the process of the tests, where TensorFlow has its threads already."""
    monkeypatch.setattr("gradprop.stacking.set_threads", lambda threads: None)
