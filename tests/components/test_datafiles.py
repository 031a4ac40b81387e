"""Files of data of a study: what is read, what is refused, and whose ids they move."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from gradprop.components import datafiles, datasets
from gradprop.components.datafiles import DataFileError
from gradprop.components.datasets import DATASETS, Dataset, generate
from gradprop.errors import ConfigError
from gradprop.grid import loading
from gradprop.results import products
from gradprop.spec import Cell, Component

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "length": RNG.standard_normal(30),
        "weight": 1000 * RNG.standard_normal(30) + 5000,
        "grown": np.arange(30) % 3 == 0,
        "kind": np.array(["ash", "oak"])[np.arange(30) % 2],
    }
)
CSV = FRAME.to_csv(index=False)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Dataset]]:
    """Return a function that writes a file, enters it and makes the data set."""
    names = []

    def made(name: str, content: str | bytes | None = None, **parameters: Any) -> Dataset:
        names.append(name)
        if content is not None:
            data = content.encode() if isinstance(content, str) else content
            (tmp_path / name).write_bytes(data)
        component = DATASETS.create({"file": name, **parameters})
        datasets.enter(component, tmp_path)
        return generate(component)

    yield made
    for name in names:
        datafiles.forget(name)


def parquet(frame: pd.DataFrame) -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content)
    return content.getvalue()


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


# ------------------------------------------------------------------------------ what is read


def test_a_table_is_split_and_standardized(make: Callable[..., Dataset]) -> None:
    """As scikit-learn does it: each feature by itself, with what the training set says."""
    made = make("trees.csv", CSV, target="kind", split_seed=4)
    x = FRAME[["length", "weight", "grown"]].to_numpy(dtype=float)
    y = (FRAME["kind"] == "oak").to_numpy(dtype=int)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, random_state=4, stratify=y
    )
    scaler = StandardScaler().fit(x_train)
    np.testing.assert_allclose(made.x_train, scaler.transform(x_train), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.x_test, scaler.transform(x_test), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(made.y_train, y_train)
    np.testing.assert_array_equal(made.y_test, y_test)
    assert made.task == "classification" and made.outputs == 2
    sizes = datasets.sizes(DATASETS.create({"file": "trees.csv", "target": "kind"}))
    assert sizes == (24, 6, 3, 2)


def test_all_formats_are_one_table(make: Callable[..., Dataset]) -> None:
    x, y = FRAME[["length", "weight", "grown"]].to_numpy(dtype=float), FRAME["kind"].to_numpy()
    kind = FRAME["kind"].astype("category")
    made = [
        make("a.csv", CSV, target="kind"),
        make("b.csv", "\ufeff" + CSV.replace("\n", "\r\n"), target="kind"),
        make("c.parquet", parquet(FRAME.assign(kind=kind)), target="kind"),
        make("d.parquet", parquet(FRAME.set_index(FRAME.index * 7 + 1)), target="kind"),
        make("e.npz", npz(x=x, y=y.astype("U"))),
    ]
    assert len({data.checksum for data in made}) == 1


@pytest.mark.parametrize(
    ("target", "given", "task", "outputs"),
    [
        (["ash", "oak"] * 15, "auto", "classification", 2),
        ([True, False, False] * 10, "auto", "classification", 2),
        ([7, 3, 5] * 10, "auto", "classification", 3),
        ([1.0, 2.0] * 15, "auto", "classification", 2),
        ([1.5, 2.0] * 15, "auto", "regression", 1),
        (range(30), "auto", "regression", 1),
        ([7, 3, 5] * 10, "regression", "regression", 1),
        ([*range(15)] * 2, "classification", "classification", 15),
    ],
)
def test_the_task_is_that_of_the_target(
    target: Any, given: str, task: str, outputs: int, make: Callable[..., Dataset]
) -> None:
    content = FRAME.assign(kind=list(target)).to_csv(index=False)
    made = make("a.csv", content, target="kind", task=given, test_fraction=0.5)
    assert (made.task, made.outputs) == (task, outputs)


def test_several_targets(make: Callable[..., Dataset]) -> None:
    made = make("a.csv", CSV.replace("ash", "0").replace("oak", "1"), target="weight, length")
    assert made.task == "regression" and made.outputs == 2 and made.x_train.shape[1] == 2
    np.testing.assert_allclose(made.y_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(made.y_train.std(axis=0), 1, rtol=1e-5)
    raw = make("a.csv", target="weight, length", standardize=False)
    both = np.concatenate([raw.y_train, raw.y_test])
    assert sorted(both[:, 0]) == sorted(FRAME["weight"].astype(np.float32))


def test_a_name_with_a_comma_is_one_column(make: Callable[..., Dataset]) -> None:
    content = CSV.replace("kind", '"kind, common"')
    assert make("a.csv", content, target="kind, common").outputs == 2


def test_more_features_than_rows_and_constant_ones(make: Callable[..., Dataset]) -> None:
    wide = pd.DataFrame(RNG.standard_normal((12, 40)), columns=[f"x{i}" for i in range(40)])
    made = make("a.csv", wide.assign(x3=0.1, y=[0, 1] * 6).to_csv(index=False), target="y")
    assert made.x_train.shape == (9, 40)
    assert (made.x_train[:, 3] == 0).all() and (made.x_test[:, 3] == 0).all()


# --------------------------------------------------------------------------- what is refused

ROW = "0.5,2,True,"


@pytest.mark.parametrize(
    ("name", "content", "target", "expected"),
    [
        ("a.csv", None, "kind", "/a.csv: no such file"),
        ("a.csv", " \n", "kind", "/a.csv: the file is empty"),
        ("a.txt", CSV, "kind", "a.txt: not of a kind that is read; allowed: .csv, .parquet, .npz"),
        ("../a.csv", None, "kind", "../a.csv: not in the study's folder; allowed: files in "),
        ("", None, "kind", "no file is named; allowed: {file: <file>, target: <column>}"),
        ("a.csv", CSV, "", "a.csv: target: no column is named; allowed: "),
        (
            *("a.csv", CSV, "knid"),
            "a.csv: target: 'knid' is not allowed; allowed: length, weight, grown, kind. Did you "
            "mean 'kind'?",
        ),
        (
            *("a.csv", f"{CSV}0.5,,True,ash\n", "kind"),
            "a.csv: column 'weight' lacks values: 1 of 31, the first in row 31; fill them in",
        ),
        ("a.csv", f"{CSV}0.5,2,True,NA\n", "kind", "a.csv: column 'kind' lacks values: 1 of 31"),
        (
            *("a.csv", CSV, "weight"),
            "a.csv: column 'kind' holds text ('ash' in row 1); allowed: numbers, true and false",
        ),
        (
            *("a.csv", FRAME.to_csv(), "kind"),
            "a.csv: column 1 has no name; if it is the index of a data frame, write the file with "
            "index=False",
        ),
        ("a.csv", f"Unnamed: 0{FRAME.to_csv()}", "kind", "a.csv: column 1 has no name; if it is"),
        ("a.csv", CSV.replace("grown", " "), "kind", "a.csv: column 3 has no name; if it is the"),
        (
            *("a.csv", CSV.replace(",", ";"), "kind"),
            "a.csv: the first line has semicolons between the names of the columns; allowed:",
        ),
        (
            *("a.csv", "\ufeff" + FRAME.to_csv(index=False, sep=";", decimal=","), "kind"),
            "a.csv: the first line has semicolons between the names",
        ),
        ("a.csv", CSV.replace(",", "\t"), "kind", "a.csv: the first line has tabs between the"),
        ("a.csv", CSV.replace("grown", "length"), "kind", "a.csv: several columns have one name"),
        ("a.csv", "length,kind\n1,ash\n", "kind", "a.csv: number of rows: 1; allowed: 2 to "),
        ("a.csv", "length,kind\n", "kind", "a.csv: no rows below the names of the columns"),
        ("a.csv", "kind\nash\noak\n", "kind", "a.csv: number of columns besides the target: 0"),
        ("a.csv", CSV.replace("oak", "ash"), "kind", "a.csv: target 'kind' has one class; "),
        (
            *("a.csv", f"{CSV}{ROW}elm\n", "kind"),
            "a.csv: target 'kind': class 'elm' has 1 example; allowed: 2 or more",
        ),
        ("a.csv", f"{CSV}{ROW}\n1,2\n", "kind", "a.csv: not a table of CSV: "),
        ("a.csv", f"{CSV}inf,2,True,ash\n", "kind", "a.csv: column 'length' has inf in row 31"),
        ("a.csv", f"{CSV}1e99,2,True,ash\n", "kind", "a.csv: column 'length' has 1e+99 in row 31"),
        ("a.csv", CSV.encode() + b"\xff", "kind", "a.csv: not valid UTF-8 at byte "),
        ("a.csv", "a,b\n1,0\n1,1\n", "b", "a.csv: every column besides the target is constant"),
        ("a.csv", "a,b\n1,.5\n2,.5\n", "b", "a.csv: target 'b' is constant"),
        ("a.csv", "a,b\n2020-01-01,1\n2020-01-02,0\n", "b", "a.csv: column 'a' holds date32[day]"),
        ("a.parquet", CSV, "kind", "a.parquet: not a Parquet file: "),
        ("a.npz", CSV, "", "a.npz: not an NPZ file of plain arrays: "),
        ("a.npz", npz(x=np.eye(3)), "", "a.npz: no array y; allowed: arrays x and y"),
        ("a.npz", npz(x=np.eye(3), y=np.ones(3)), "kind", "a.npz: target: 'kind' is not allowed"),
        ("a.npz", npz(x=np.eye(3), y=np.ones(2)), "", "a.npz: y has the shape (2,) of float64"),
        ("a.npz", npz(x=np.ones(3), y=np.ones(3)), "", "a.npz: x has the shape (3,) of float64"),
        ("a.npz", npz(x=np.eye(3), y=np.ones((3, 0))), "", "a.npz: y has the shape (3, 0) of"),
        ("./a.csv", CSV, "kind", "./a.csv: one file has one name; allowed: a.csv"),
        (
            *("a.csv", "a,b\n1,1\n2,0\n?,1\n", "b"),
            "a.csv: column 'a' holds text ('?' in row 3); allowed: numbers",
        ),
        ("a.csv", f"a,b\n{2**60},1\n1,0\n", "b", "a.csv: column 'a' has whole numbers beyond 2^53"),
        ("a.csv", f"a,b\n1,{2**60}\n2,0\n", "b", "a.csv: column 'b' has whole numbers beyond 2^53"),
        (
            *("a.npz", npz(x=[[2**60], [1]], y=[0, 1]), ""),
            "a.npz: column 'x[:, 0]' has whole numbers beyond 2^53",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_used_is_one_line(
    name: str,
    content: str | bytes | None,
    target: str,
    expected: str,
    make: Callable[..., Dataset],
    tmp_path: Path,
) -> None:
    with pytest.raises(DataFileError) as caught:
        make(name, content, target=target)
    told = str(caught.value).replace(str(tmp_path), "")
    assert told.startswith(expected) and "\n" not in told


def test_what_float32_cannot_tell_apart_has_to_be_standardized(
    make: Callable[..., Dataset],
) -> None:
    rows = "".join(f"{10**9 + n},{n % 2}\n" for n in range(20))
    assert np.ptp(make("a.csv", f"a,b\n{rows}", target="b").x_train) > 1
    with pytest.raises(DataFileError, match="the values of feature 1 are one number in float32"):
        make("a.csv", target="b", standardize=False)


@pytest.mark.parametrize("kind", [">f4", ">i4", "<f2"])
def test_any_order_of_bytes_and_size_of_numbers(kind: str, make: Callable[..., Dataset]) -> None:
    x, y = np.arange(20.0)[:, None], np.arange(20) % 2
    expected = make("a.npz", npz(x=x, y=y)).x_train
    np.testing.assert_array_equal(
        make("a.npz", npz(x=x.astype(kind), y=y.astype(kind))).x_train, expected
    )


class Harmful:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("a pickle was read",)


def test_nothing_in_a_file_is_run(make: Callable[..., Dataset]) -> None:
    content = npz(x=np.eye(4), y=np.array([Harmful()] * 4, dtype=object))
    with pytest.raises(DataFileError, match="not an NPZ file of plain arrays: Object arrays"):
        make("a.npz", content)


def test_a_link_leads_out_of_no_folder(make: Callable[..., Dataset], tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "other.csv").write_text(CSV)
    (tmp_path / "study/link.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(DataFileError, match=re.escape("link.csv: not in the study's folder")):
        datafiles.enter("link.csv", tmp_path / "study")


def test_a_class_has_to_fit_the_split(make: Callable[..., Dataset]) -> None:
    component = DATASETS.create({"file": "a.csv", "target": "kind", "test_fraction": 0.01})
    make("a.csv", CSV, target="kind")
    assert datasets.conflict(component) == (
        "29 training and 1 test examples are too few for 2 classes: change `test_fraction`"
    )


# -------------------------------------------------------------------------------- identities

STUDY: dict[str, Any] = {
    "title": "Trees",
    "question": "Which?",
    "training": {"learning_rate": 0.1, "batch_size": 8, "epochs": 1},
    "grid": {
        "dataset": ["wine", {"file": "trees.csv", "target": "kind", "split_seed": [0, 1]}],
        "depth": 1,
        "width": 4,
        "activation": "tanh",
        "initializer": "he_normal",
    },
}


def cells(folder: Path, content: str) -> tuple[Cell, ...]:
    folder.mkdir(exist_ok=True)
    (folder / "trees.csv").write_text(content)
    return loading.build_study("trees", STUDY, 1, "study.yaml", folder).cells


@pytest.fixture
def forgotten() -> Iterator[None]:
    yield
    datafiles.forget("trees.csv")


@pytest.mark.usefixtures("forgotten")
def test_an_edit_moves_the_ids_of_its_cells_alone(tmp_path: Path) -> None:
    before, again = cells(tmp_path, CSV), cells(tmp_path, CSV)
    paths = [products.dataset(tmp_path, cell.dataset) for cell in before]
    after = cells(tmp_path, CSV.replace("ash", "elm"))
    assert [cell.id for cell in before] == [cell.id for cell in again]
    assert [old.id == new.id for old, new in zip(before, after, strict=True)] == [
        True,
        False,
        False,
    ]
    assert before[0].code == "" and re.fullmatch("dataset=[0-9a-f]{12}", before[1].code)
    found = [products.dataset(tmp_path, cell.dataset) for cell in after]
    assert [a == b for a, b in zip(found, paths, strict=True)] == [True, False, False]
    assert before[1].dataset.label == "file(file=trees.csv, target=kind)"


@pytest.mark.usefixtures("forgotten")
def test_the_copy_among_the_results_follows_an_edit(tmp_path: Path) -> None:
    path = tmp_path / "copy.npz"
    component = cells(tmp_path, CSV)[1].dataset
    first = datasets.write(component, path)
    cells(tmp_path, CSV.replace("True", "False", 1))
    assert datasets.write(component, path).checksum != first.checksum


@pytest.mark.usefixtures("forgotten")
def test_two_studies_share_a_name_only_with_one_content(tmp_path: Path) -> None:
    one = cells(tmp_path / "one", CSV)
    assert cells(tmp_path / "two", CSV) == one
    with pytest.raises(ConfigError) as caught:
        cells(tmp_path / "three", CSV.replace("ash", "elm"))
    assert str(caught.value).startswith("study.yaml: grid.dataset: trees.csv: ")
    assert str(caught.value).endswith("is another file of this name; rename one")


@pytest.mark.usefixtures("forgotten")
def test_a_mistake_names_the_study_and_the_key(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^study\.yaml: grid\.dataset: trees\.csv: target: 'kind'"
    ):
        cells(tmp_path, CSV.replace("kind", "species"))


@pytest.mark.parametrize("target", ["true", "1e3", "a, b", "height (m)"])
@pytest.mark.usefixtures("forgotten")
def test_a_column_is_found_again_in_the_tables(target: str, tmp_path: Path) -> None:
    """The label of a data set is all that tables have: a name that it garbles is refused."""
    component = DATASETS.create({"file": "trees.csv", "target": target})
    again = DATASETS.create(Component.parse(component.label).document())
    study = {**STUDY, "grid": {**STUDY["grid"], "dataset": {"file": "trees.csv", "target": target}}}
    (tmp_path / "trees.csv").write_text(f'length,"{target}"\n' + "1,0\n2,1\n" * 20)
    if again == component:
        (cell,) = loading.build_study("trees", study, 1, "study.yaml", tmp_path).cells
        assert cell.dataset == component
    else:
        with pytest.raises(ConfigError, match=r"study\.yaml: grid\.dataset: .* no unique name"):
            loading.build_study("trees", study, 1, "study.yaml", tmp_path)


@pytest.mark.usefixtures("forgotten")
def test_two_data_sets_do_not_share_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "trees"
    folder.mkdir()
    alike = {"file": "trees.csv", "target": ["a b", "a/b"]}
    study = {**STUDY, "grid": {**STUDY["grid"], "dataset": alike}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "trees.csv").write_text("a b,a/b,c\n" + "1,0,3\n0,1,4\n" * 10)
    with pytest.raises(ConfigError, match=r"would share the file file_file_trees\.csv_target_a_b"):
        loading.load_studies({"studies": ["trees"]}, "config.yaml", [tmp_path])
