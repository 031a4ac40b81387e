"""What a study brings along: claims and kinds of figures that are none are told in one line."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from gradprop import cli, studies
from gradprop.claims import NOT_TESTED, NotMeasured
from gradprop.claims.references import CitationError
from gradprop.errors import CodeError, ConfigError, GradpropError
from gradprop.figures import drawing
from gradprop.grid import folders, loading
from gradprop.results import manifests, products
from gradprop.results.study_tables import StudyTables
from gradprop.spec import Study
from tests.studies.invented import invent
from tests.workspace import ROOT

CLAIM = (
    "Claim(id='a', statement='a', source='', formula='', unit='', criterion=Above(0), measure=list)"
)
IMPORT = "from gradprop.claims import Above, Claim\n"


def study(folder: Path, **modules: str) -> Study:
    """Return a study without networks whose folder has these modules."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text)
    return Study("own", "Own", "?", (), folder=folder)


def test_a_study_without_claims_has_none(tmp_path: Path) -> None:
    assert studies.claims_of(study(tmp_path)) == ()
    assert studies.claims_of(study(tmp_path, claims="def numbers(tables): return {}")) == ()
    assert studies.claims_of(Study("made", "in", "memory", ())) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("claims = []", "claims.py: holds neither CLAIMS, a list of Claim, nor numbers(tables)"),
        ("CLAIMS = 3", "claims.py: CLAIMS: 3 is not allowed; allowed: a list of Claim"),
        ("CLAIMS = ['x']", "claims.py: CLAIMS: ['x'] is not allowed; allowed: a list of Claim"),
        (f"{IMPORT}CLAIMS = 2 * [{CLAIM}]", "claims.py: CLAIMS: two claims have the id 'a'"),
    ],
)
def test_claims_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        studies.claims_of(study(tmp_path, claims=text))
    assert str(caught.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("KINDS = {'mine': 3}", "figures.py: KINDS: 'mine' is not a Kind"),
        ("KINDS = {'slope': 3}", "figures.py: KINDS: 'slope' is a kind of the package"),
    ],
)
def test_kinds_of_figures_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        drawing.kinds_of(study(tmp_path, figures=text))
    assert str(caught.value) == f"{tmp_path}/{message}"


OWN_KIND = """import pandas as pd
from matplotlib.figure import Figure
from gradprop.figures.kind import Kind
def prepare(tables, options): return pd.DataFrame({"x": [1]})
def draw(rows, options): return Figure()
def describe(rows, options): return "One."
"""


@pytest.mark.parametrize(
    ("part", "does", "told"),
    [
        ("prepare", "1 / 0", ":7: study own, prepare of kind mine: ZeroDivisionError: division"),
        ("draw", "{}['x']", ":7: study own, draw of kind mine: KeyError: 'x'"),
        ("describe", "options.x", ":7: study own, describe of kind mine: AttributeError: 'dict'"),
        (
            "prepare",
            "[1]",
            ": study own, prepare of kind mine: TypeError: returned [1]; allowed: a",
        ),
        ("draw", "None", ": study own, draw of kind mine: TypeError: returned nothing; allowed: a"),
        ("describe", "3", ": study own, describe of kind mine: TypeError: returned 3; allowed: a"),
    ],
)
def test_an_own_kind_that_fails_names_its_place(
    tmp_path: Path, part: str, does: str, told: str
) -> None:
    code = f"{OWN_KIND}def wrong(rows, options): return {does}\n{part} = wrong\n"
    own = study(tmp_path, figures=f"{code}KINDS = {{'mine': Kind(prepare, draw, describe)}}")
    options = {"mine": {"kind": "mine", "title": "Mine"}}
    with pytest.raises(CodeError) as caught:
        drawing.draw_study(replace(own, figures=options), tmp_path, tmp_path / "reports")
    assert str(caught.value).startswith(f"{tmp_path}/figures.py{told}")
    assert not list((tmp_path / "reports").rglob("*"))


def test_a_kind_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    """It was there when the workflow began."""
    options = {"mine": {"kind": "mine", "title": "Mine"}}
    own = replace(study(tmp_path), figures=options)
    with pytest.raises(ConfigError) as caught:
        drawing.draw_study(own, tmp_path, tmp_path / "reports")
    told = f"{tmp_path}/study.yaml: figures.mine.kind: 'mine' is not allowed; allowed: "
    assert str(caught.value).startswith(told)


def test_a_new_study_is_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["new-study", "mine"]) == 0
    said = capsys.readouterr().out
    assert "snakemake -s" in said
    assert "--config 'studies=[mine]'" in said
    (plan,) = (line for line in said.splitlines() if "gradprop plan" in line)
    assert cli.main(["plan", "--config", "studies=[mine]"]) == 0
    assert plan.endswith("plan --config 'studies=[mine]'")
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table if line][:3] == ["study", "mine", "total"]
    files = {path.name for path in (tmp_path / "config/studies/mine").iterdir()}
    assert {folders.STUDY, folders.CLAIMS, folders.CHAPTER} == files
    for name, problem in (
        ("mine", "config/studies/mine: exists; choose another name"),
        ("descent", f"{ROOT}/config/studies/descent: exists; choose another name"),
        ("Mine", "new-study: 'Mine' is not allowed; allowed: lower-case letters"),
        ("data", "new-study: 'data' is not allowed"),
    ):
        assert cli.main(["new-study", name]) == 1
        assert capsys.readouterr().err.startswith(f"gradprop: {problem}")
    assert [path.name for path in (tmp_path / "config/studies").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({}, {"depth=10,width=32": -1.247}),
        ({"depth": [2, 10, 20]}, {"depth=10,width=32": -1.247, "depth=20,width=32": -1.247}),
        ({"depth": [2, 6], "width": 16}, {"depth=6,width=16": -1.398}),
        ({"width": [8, 32]}, {"depth=10,width=8": -1.548, "depth=10,width=32": -1.247}),
        ({"initializer": {"name": "normal", "stddev": 0.02}}, {"depth=10,width=32": -0.946}),
        ({"activation": ["tanh", "relu"]}, {"depth=10,width=32": -1.247}),
    ],
)
def test_the_claim_of_a_new_study_speaks_of_the_networks_that_it_has(
    edits: dict[str, Any], expected: dict[str, float], tmp_path: Path
) -> None:
    folder = studies.create("mine", tmp_path)
    content = yaml.safe_load((folder / folders.STUDY).read_text())
    content["grid"] |= edits
    content["names"] = {}
    own = loading.build_study("mine", {**content, "figures": {}}, 5, "mine", folder)
    found = invent(own)
    rows, wanted = found.layers, {cell.id: cell.width for cell in own.cells}
    rate = rows["cell"].map(wanted).map(lambda width: math.log10(math.sqrt(width)))
    stddev = 0.02 if "initializer" in edits else 0.01
    decades = (rate + math.log10(stddev)) * -rows["layer"] + rows["cell"].map(hash) % 7 / 1e6
    found.layers = rows.assign(signal_log10_rms=decades)
    results = {
        row.case_id.partition(",")[2]: (row.verdict, row.networks, round(row.predicted or 0, 3))
        for row in studies.judge(found)
    }
    assert results == {case: ("supported", 5, rate) for case, rate in expected.items()}


@pytest.mark.parametrize("name", folders.names([ROOT / folders.STUDIES]))
def test_the_files_of_the_shipped_studies_draw_nothing(name: str) -> None:
    """Verdicts hang on no picture: a changed colour judges nothing again."""
    files = set((ROOT / folders.STUDIES / name).glob("*.py"))
    for path in files - {ROOT / folders.STUDIES / name / folders.FIGURES}:
        assert not re.search(
            r"gradprop\.figures|import figures|matplotlib|seaborn", path.read_text()
        )


def test_claims_cite_the_references_of_the_study_and_of_the_project(tmp_path: Path) -> None:
    entry = "@book{mine, author={A}, title={T}, year=2000, passage-p={What it says.}}"
    (tmp_path / folders.REFERENCES).write_text(entry)
    cited = CLAIM.replace("source=''", "source='mine: page 3; he2015', passage='p'")
    own = study(tmp_path, claims=f"{IMPORT}CLAIMS = [{cited.replace('list', 'lambda _: []')}]")
    (result,) = studies.judge(StudyTables(own, tmp_path))
    assert (result.source, result.passage) == ("A 2000, page 3; He et al. 2015", "What it says.")
    assert result.cites == "mine: page 3; he2015"


def test_an_unknown_key_names_file_claim_and_the_closest(tmp_path: Path) -> None:
    wrong = CLAIM.replace("source=''", "source='he2051: section 2'")
    own = study(tmp_path, claims=f"{IMPORT}CLAIMS = [{wrong}]")
    with pytest.raises(CitationError) as caught:
        studies.judge(StudyTables(own, tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/claims.py: source of claim 'a': 'he2051' is no key in "
        f"{ROOT}/config/references.bib. Did you mean 'he2015'?"
    )


FAILING = f"""{IMPORT}
def wrong(tables):
    for number in [1, 0]:
        yield 1 / number if number else next(iter([]))

def broken(tables):
    return {{}}["tanh"]

CLAIMS = [
    Claim("a", "b", "", "", "", Above(0), broken),
]
"""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        ("broken", "claims.py:8: study own, claim a: KeyError: 'tanh'"),
        ("wrong", "claims.py:5: study own, claim a: RuntimeError: generator raised StopIteration"),
    ],
)
def test_a_claim_that_fails_is_told_in_one_line_and_its_traceback_before(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    told: str,
) -> None:
    """Its study, the claim, and the place in its code; the traceback is for the log."""
    made = study(tmp_path, claims=FAILING.replace("broken),", f"{function}),"))
    monkeypatch.setattr("gradprop.grid.definitions.read_study", lambda *_: made)
    monkeypatch.setattr(
        studies, "judge_study", lambda study, *_: studies.judge(StudyTables(study, tmp_path))
    )
    assert cli.main(["claims", "study.json"]) == 1
    *traceback, last = capsys.readouterr().err.splitlines()
    assert last == f"gradprop: {tmp_path}/{told}"
    assert traceback[0] == "Traceback (most recent call last):"
    assert any(f"in {function}" in line for line in traceback)


MISTAKEN = f"""{IMPORT}from gradprop.claims import Within, from_seeds
def measure(tables):
    {{}}
CLAIMS = [Claim("a", "b", "", "", "", Within(0.1), measure)]
"""


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return from_seeds('x', [1, 2], 1.0)", ":3: {}TypeError: its measure returns a single Ev"),
        ("pass", ":3: {}TypeError: its measure returns nothing; write yield, or return a list"),
        ("yield 3", ":3: {}TypeError: its measure gives 3; allowed: Evidence"),
        (
            "yield from_seeds('x', [1, 2])",
            ":3: {}TypeError: case 'x': the criterion is an interval",
        ),
        (
            "yield from_seeds('x', [[1, 2]])",
            ":4: {}ValueError: values of the shape (1, 2); allowed",
        ),
        ("raise SystemExit(0)", ":4: {}SystemExit: 0"),
        ("__import__('sys').exit()", ":4: {}SystemExit: "),
    ],
)
def test_a_measure_that_gives_no_evidence_is_told_with_its_line(
    tmp_path: Path, body: str, told: str
) -> None:
    made = study(tmp_path, claims=MISTAKEN.format(body))
    with pytest.raises(CodeError) as caught:
        studies.judge(StudyTables(made, tmp_path))
    assert str(caught.value).startswith(
        f"{tmp_path}/claims.py{told.format('study own, claim a: ')}"
    )


def test_what_is_written_wrongly_in_a_claim_is_told_with_its_line(tmp_path: Path) -> None:
    text = MISTAKEN.format("pass").replace("Within(0.1)", "0.1")
    with pytest.raises(ConfigError) as caught:
        studies.claims_of(study(tmp_path, claims=text))
    told = "claims.py:5: ValueError: Claim: criterion: 0.1 is not allowed; allowed: Within, Above"
    assert str(caught.value).startswith(f"{tmp_path}/{told}")


def test_a_number_that_is_nothing_is_named(tmp_path: Path) -> None:
    made = study(tmp_path, claims="def numbers(tables):\n    return {'one': 1, 'two': None}\n")
    with pytest.raises(CodeError) as caught:
        studies.numbers(StudyTables(made, tmp_path))
    allowed = "a number or a text, or a list or dict of them"
    told = f"study own, numbers: TypeError: 'two' is nothing; allowed: {allowed}"
    assert str(caught.value) == f"{tmp_path}/claims.py:1: {told}"


def test_a_number_that_is_a_set_is_named(tmp_path: Path) -> None:
    made = study(tmp_path, claims="def numbers(tables):\n    return {'all': [1, {2}]}\n")
    with pytest.raises(CodeError, match=r"'all' is \{2\}; allowed: a number or a text"):
        studies.numbers(StudyTables(made, tmp_path))


@pytest.mark.parametrize(("character", "code"), [("\\ud800", "U\\+D800"), ("\\0", "U\\+0000")])
@pytest.mark.parametrize("value", ["['a{}b']", "{{'a{}b': 1}}"])
def test_a_text_that_no_report_can_hold_is_named(
    tmp_path: Path, value: str, character: str, code: str
) -> None:
    code_of_number = f"def numbers(tables):\n    return {{'all': {value.format(character)}}}\n"
    made = study(tmp_path, claims=code_of_number)
    with pytest.raises(CodeError, match=f"'all' has the character {code}, which is not allowed"):
        studies.numbers(StudyTables(made, tmp_path))


def test_numbers_are_written_and_read_as_they_are(tmp_path: Path) -> None:
    """The report has them from the job that judges claims, to the last bit."""
    code = "import numpy as np\ndef numbers(tables):\n    return {}\n".format(
        "{'third': np.float64(1) / 3, 'count': np.int64(3), 'none': np.nan, 'far': -np.inf,"
        " 'text': 'a < b', 'holds': True,"
        " 'rows': ({'depth': 2, 'lost': np.float32(0.1)},)}"
    )
    made, judged = study(tmp_path, claims=code), tmp_path / "reports/claims/own.json"
    path = studies.write_numbers(StudyTables(made, tmp_path), judged)
    with pytest.raises(GradpropError, match=r"own-numbers.json: "):  # no manifest vouches for it
        studies.read_numbers(made, judged)
    manifests.write(products.claims(tmp_path / "reports", made), [path])
    found = studies.read_numbers(made, judged)
    assert math.isnan(float(found.pop("none")))
    wanted = {"third": 1 / 3, "count": 3, "far": -math.inf, "text": "a < b", "holds": True}
    wanted["rows"] = [{"depth": 2, "lost": float(np.float32(0.1))}]
    assert found == wanted
    assert [type(value) for value in found.values()] == [float, int, float, str, bool, list]
    with pytest.raises(GradpropError, match=r"own-numbers.json: "):  # of another definition
        studies.read_numbers(replace(made, definition={"title": "other"}), judged)
    path.write_text(path.read_text().replace("0.3333", "0.4333"))
    with pytest.raises(GradpropError, match=r"own-numbers.json: damaged or edited"):
        studies.read_numbers(made, judged)


COLUMNS = ["cell", "step", "layer", *(f"statistic_{number}" for number in range(50))]
READING = f"""import pandas as pd
{IMPORT}
def wrong(tables):
    return pd.DataFrame(columns={COLUMNS})["{{}}"]
CLAIMS = [Claim("a", "b", "", "", "", Above(0), wrong)]
def numbers(tables): return dict(x=wrong(tables))
"""


def test_a_column_that_no_table_has_is_told_with_the_nearest(tmp_path: Path) -> None:
    made = study(tmp_path, claims=READING.format("statistic_52"))
    with pytest.raises(CodeError) as caught:
        studies.judge(StudyTables(made, tmp_path))
    told = "the table has no column 'statistic_52'; it has statistic_2, statistic_5, "
    assert str(caught.value).startswith(f"{tmp_path}/claims.py:5: study own, claim a: {told}")
    assert str(caught.value).endswith(" more)")
    assert len(str(caught.value).partition("claim a: ")[2]) <= 200


def test_a_statistic_that_is_not_recorded_is_not_tested_and_leaves_the_prose_out(
    tmp_path: Path,
) -> None:
    made = study(tmp_path, claims=READING.format("gradient_kurtosis"))
    reason = "the study does not record gradient_kurtosis; add it to the key statistics of its "
    (result,) = studies.judge(StudyTables(made, tmp_path))
    assert result.verdict == NOT_TESTED
    assert result.reason == f"{reason}study.yaml"
    with pytest.raises(NotMeasured, match=reason):
        studies.numbers(StudyTables(made, tmp_path))
