from __future__ import annotations
from gradprop.figures.data import StudyTables
def numbers(tables: StudyTables) -> dict[str, float | str]:
    return {}
