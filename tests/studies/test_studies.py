"""Every study, reduced: all figures, claims and prose; and the table of the papers' figures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gradprop import claims, jobs, studies
from gradprop.claims.references import PASSAGE, References
from gradprop.components.datasets import write
from gradprop.figures import drawing
from gradprop.grid import axes, folders, loading, sharding
from gradprop.report.page import write_report
from gradprop.report.pictures import figure_files
from gradprop.results import manifests, products
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Study
from tests.long import long_but
from tests.workspace import ROOT

PAPERS_PAGE = ROOT / "docs/papers.md"
PAPERS: list[str] = yaml.safe_load((ROOT / "config/papers.yaml").read_text())["studies"]
STUDIES = folders.names([ROOT / folders.STUDIES])
# Those that take seconds.
SHORT = ("orthogonal", "saxe2014")
DEEPEST = 12  # of the trained networks; deeper ones take long to compile
WIDEST = 500  # of the networks with many seeds; singular values of wider ones take long
# Chapters whose prose has numbers of trained networks that are deeper.
SPEAK_OF_DEEP_NETWORKS = ("initializers",)


def load(name: str) -> dict[str, Any]:
    path = ROOT / folders.STUDIES / name / folders.STUDY
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    return content


def build(name: str, content: dict[str, Any]) -> Study:
    return loading.build_study(name, content, 2, name, ROOT / folders.STUDIES / name)


@pytest.mark.parametrize("name", STUDIES)
def test_a_chapter_refers_to_each_of_its_figures(name: str) -> None:
    text = (ROOT / folders.STUDIES / name / folders.CHAPTER).read_text()
    placed = re.findall(r'{{ figure\("(\w+)"\) }}', text)
    assert set(placed) == set(re.findall(r'{{ ref\("(\w+)"\) }}', text))
    assert re.search("^## ", text, re.MULTILINE) or len(placed) < 3


def ids_of_claims(study: Study) -> set[str]:
    return {claim.id for claim in studies.claims_of(study)}


def values(axis: Any) -> list[Any]:
    return axis if isinstance(axis, list) else [axis]


def reduced(content: dict[str, Any]) -> dict[str, Any]:
    """Return the study with fewer seeds, epochs and probes; trained networks shallow."""
    blocks = []
    for block in values(content["grid"]):
        epochs = block.get("epochs", content["training"].get("epochs"))
        slow = epochs or max(axes.axis_values("width", block["width"])) > WIDEST
        seeds, most = block.get("seeds", 5), 2 if slow else 8
        seeds = seeds[:most] if isinstance(seeds, list) else min(seeds, most)
        small = {**block, "seeds": seeds, "epochs": min(epochs, 1)}
        if small["epochs"]:
            depths = values(block["depth"])
            small["depth"] = [d for d in depths if d <= DEEPEST] or [min(depths)]
        blocks.append(small)
    shown = {
        name: with_epochs(with_depths(options, blocks))
        for name, options in content.get("figures", {}).items()
    }
    probes = min(content.get("probes", 10), 2)
    return {**content, "grid": blocks, "figures": shown, "probes": probes}


def with_depths(options: dict[str, Any], blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Let a figure select what is left of the depths of its networks, or the largest depth."""
    select = options.get("select", {})
    if "depth" not in select:
        return options
    shown = [
        block
        for block in blocks
        if "activation" not in select
        or set(values(select["activation"])) & set(values(block["activation"]))
    ]
    wanted = select.get("dataset")
    shown = [block for block in shown if wanted in (None, block["dataset"])] or shown
    built = {d for block in shown for d in axes.axis_values("depth", block["depth"])}
    left = [depth for depth in values(select["depth"]) if depth in built] or [max(built)]
    return {**options, "select": {**select, "depth": left}}


def with_epochs(options: dict[str, Any]) -> dict[str, Any]:
    """Let a figure select what is left of the epochs of its networks."""
    select = options.get("select", {})
    if "epochs" not in select:
        return options
    left = sorted({min(epochs, 1) for epochs in values(select["epochs"])})
    return {**options, "select": {**select, "epochs": left}}


def train(study: Study, root: Path) -> None:
    for component in {cell.dataset for cell in study.cells}:
        write(component, root / f"{component.slug}.npz")
    for shard in sharding.shards(study.cells).values():
        data = root / f"{shard.cells[0].dataset.slug}.npz"
        jobs.train_shard(shard, root / "results" / study.name, data, stack_size=40)


@pytest.mark.parametrize("name", long_but(SHORT, STUDIES))
def test_a_reduced_study_gives_its_chapter(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "FORMATS", ("svg",))
    study = build(name, reduced(load(name)))
    train(study, tmp_path)
    results, reports = tmp_path / "results", tmp_path / "reports"
    assert drawing.draw_study(study, results / name, reports) == list(study.figures)
    for figure in study.figures:
        source = reports / f"figures/{name}/{figure}.svg"
        for ending in ("pdf", "png"):
            source.with_suffix(f".{ending}").write_bytes(source.read_bytes())
    drawn = [reports / path for figure in study.figures for path in
             figure_files(study, figure).values()]  # fmt: skip
    manifests.write(products.figures(reports, study), drawn)
    tables = StudyTables(study, results / name)
    verdicts = studies.judge(tables)
    assert {verdict.id for verdict in verdicts} == ids_of_claims(study)
    studies.judge_study(study, results / name, reports)
    write_report([study], results, reports, "Studies", "studies.html")
    page = (reports / "studies.html").read_text(encoding="utf-8")
    assert ("It is left out" in page) == (name in SPEAK_OF_DEEP_NETWORKS)
    assert all(f'id="figure-{name}.{figure}"' in page for figure in study.figures)


@pytest.mark.long  # with networks that are really trained; test_changed_studies has invented ones
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mechanism", {"depth": 0}),
        ("mechanism", {"depth": 3, "initializer": ["identity"]}),
        ("descent", {"depth": 1}),
        ("initializers", {"depth": 2, "width": [9, 17]}),
        ("propagation", {"depth": 1}),
        ("propagation", {"depth": 10, "initializer": ["glorot_normal"]}),
        ("trainability", {"depth": 1, "batch_size": [32, 64], "seeds": 1}),
    ],
)
def test_a_changed_study_has_verdicts(tmp_path: Path, name: str, change: dict[str, Any]) -> None:
    """Whatever the grid: what is lacking is not tested, and no measure stumbles over it."""
    content = reduced(load(name))
    blocks = [{**block, **change, "seeds": change.get("seeds", 2)} for block in content["grid"]]
    study = build(name, {**content, "grid": blocks, "figures": {}})
    train(study, tmp_path)
    found = studies.judge(StudyTables(study, tmp_path / "results" / name))
    assert {verdict.id for verdict in found} == ids_of_claims(study)
    nothing = [row for row in found if row.verdict == claims.SUPPORTED and not row.networks]
    assert nothing == []


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_claims_with_ids(name: str) -> None:
    assert ids_of_claims(build(name, load(name)))


def test_claims_and_chapters_cite_the_references_of_the_project() -> None:
    """Each key and passage is in config/references.bib, and nothing in it is never cited."""
    references = References([ROOT / "config/references.bib"])
    cited, passages = set(), set()
    for name in STUDIES:
        folder = ROOT / folders.STUDIES / name
        for claim in studies.claims_of(Study(name, "", "", (), folder=folder)):
            keys = [entry.key for entry, _ in references.cited(claim.source) if entry]
            cited |= {*keys}
            if claim.passage:
                assert references.passage(claim.passage, claim.source)
                passages.add((keys[0], claim.passage))
        text = (folder / folders.CHAPTER).read_text(encoding="utf-8")
        cited |= {*re.findall(r'cite\("([^"]+)"', text)}
    assert cited == references.entries.keys()
    assert passages == {
        (key, field.removeprefix(PASSAGE))
        for key, entry in references.entries.items()
        for field in entry.fields
        if field.startswith(PASSAGE)
    }


@pytest.mark.parametrize("name", PAPERS)
def test_every_figure_names_the_published_one_that_it_regenerates(name: str) -> None:
    assert all(options.get("source") for options in load(name)["figures"].values())


def table() -> Iterator[str]:
    """Yield the rows of the table of figures, made from the studies."""
    yield "| figure of the paper | here | claims and numbers |"
    yield "| --- | --- | --- |"
    for name in PAPERS:
        for figure, options in load(name)["figures"].items():
            place = f"[`{name}`](../config/studies/{name}/study.yaml): `{figure}`"
            module = f"[`claims.py`](../config/studies/{name}/claims.py)"
            yield f"| {options['source']} | {place} | {module} |"


@pytest.mark.parametrize("name", STUDIES)
def test_glorot_and_initialization_have_one_word_each(name: str) -> None:
    folder = ROOT / folders.STUDIES / name
    for path in (*folder.glob("*.j2"), *folder.glob("*.py"), folder / folders.STUDY):
        found = re.findall(r"\bXavier\b|['’]s start\b", path.read_text("utf-8"))
        assert not found, path


def test_the_table_of_figures_agrees_with_the_studies() -> None:
    text = PAPERS_PAGE.read_text(encoding="utf-8")
    assert text == with_table(text), "run: python -m tests.studies.test_studies"


def with_table(text: str) -> str:
    rows = "\n".join(table())
    found, count = re.subn(
        r"(<!-- papers -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{rows}\n{match[2]}",
        text,
        flags=re.DOTALL,
    )
    assert count == 1
    return found


if __name__ == "__main__":
    PAPERS_PAGE.write_text(with_table(PAPERS_PAGE.read_text("utf-8")), encoding="utf-8")
