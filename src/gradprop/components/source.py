"""Digests of single functions of a Python file: what they are, not how they are commented.

A function's code is its own statement and, transitively, those statements of the same file that
bind the top-level names it uses. Comments, docstrings, blank lines and other functions of the file
leave the digest as it is. What a function imports from installed packages is not part of it.
"""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Collection, Iterator

from gradprop.spec import digest


class Source:
    """The top-level statements of a file.

    Parameters
    ----------
    text
        Content of the file.
    file
        Its name, for messages of Python.
    """

    def __init__(self, text: str, file: str) -> None:
        self._statements: dict[str, list[ast.stmt]] = {}
        self._tables: dict[str, list[symtable.SymbolTable]] = {}
        for statement in ast.parse(text, file).body:
            for name in _touched(statement):
                self._statements.setdefault(name, []).append(statement)
        for table in symtable.symtable(text, file, "exec").get_children():
            self._tables.setdefault(table.get_name(), []).append(table)

    def function(self, name: str, line: int) -> ast.FunctionDef | None:
        """Return the definition of a top-level function that begins in `line`, decorators included.

        None if there is none: it stands within something else, or was not decorated.
        """
        for node in self._statements.get(name, ()):
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            if isinstance(node, ast.FunctionDef) and [d.lineno for d in decorators[:1]] == [line]:
                return node
        return None

    def last(self, name: str) -> ast.FunctionDef | None:
        """Return the top-level function that a name stands for in the end; None for others."""
        found = self._statements.get(name, [None])[-1]
        return found if isinstance(found, ast.FunctionDef) else None

    def digest(
        self, root: ast.FunctionDef, marks: Collection[str], counted: Collection[str] | None
    ) -> str:
        """Return the digest of a function and of all that it uses.

        Parameters
        ----------
        root
            The function.
        marks
            Names of decorators of which only keywords count.
        counted
            Those keywords of theirs that count; None: all.
        """
        root = copy.deepcopy(root)
        keywords = []
        for decorator in list(root.decorator_list):
            if isinstance(decorator, ast.Call) and _last_name(decorator.func) in marks:
                root.decorator_list.remove(decorator)
                keywords += [k for k in decorator.keywords if counted is None or k.arg in counted]
        used = self._used(root) | {name for k in keywords for name in _loaded(k.value)}
        parts = [_dump(root), *sorted(f"{k.arg}={_dump(k.value)}" for k in keywords)]
        return digest([parts, self._closure(used - {root.name})])

    def _closure(self, names: set[str]) -> list[str]:
        """Return the code behind names, by name."""
        found: dict[str, list[str]] = {}
        waiting = sorted(names)
        while waiting:
            name = waiting.pop()
            if name in found or name not in self._statements:
                continue
            found[name] = [_of_name(statement, name) for statement in self._statements[name]]
            waiting += [n for s in self._statements[name] for n in self._used(s)]
        return [f"{name}: {code}" for name in sorted(found) for code in found[name]]

    def _used(self, statement: ast.stmt) -> set[str]:
        """Return the top-level names that a statement uses."""
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return set(_loaded(statement))
        outside: list[ast.AST] = [*statement.decorator_list]
        if isinstance(statement, ast.ClassDef):
            outside += [*statement.bases, *(k.value for k in statement.keywords)]
        else:
            outside += [statement.args, *([statement.returns] if statement.returns else [])]
        inside = {n for table in self._tables[statement.name] for n in _globals(table)}
        return inside | {name for node in outside for name in _loaded(node)}


def _touched(statement: ast.stmt) -> set[str]:
    """Return the top-level names that a statement binds or may change."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {_binding(alias) for alias in statement.names}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(_binding(node))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
            names.add(node.id)
        elif isinstance(node, (ast.Attribute, ast.Subscript)):  # table["x"] = 1, table.update(...)
            names |= {n.id for n in ast.walk(node.value) if isinstance(n, ast.Name)}
    return names


def _binding(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _loaded(node: ast.AST) -> Iterator[str]:
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _globals(table: symtable.SymbolTable) -> set[str]:
    """Return the names that a function or class, and what is defined in it, finds at top level."""
    found = {s.get_name() for s in table.get_symbols() if s.is_global()}
    return found.union(*(_globals(child) for child in table.get_children()))


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _of_name(statement: ast.stmt, name: str) -> str:
    """Return the code of a statement; of an import only what binds `name`."""
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        statement = copy.copy(statement)
        statement.names = [alias for alias in statement.names if _binding(alias) == name]
    return _dump(statement)


def _dump(node: ast.AST) -> str:
    node = copy.deepcopy(node)
    for part in ast.walk(node):
        if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (
            ast.get_docstring(part, clean=False) is not None
        ):
            part.body = part.body[1:] or [ast.Pass()]
    return ast.unparse(node)  # the same in all versions of Python, which a dump is not
