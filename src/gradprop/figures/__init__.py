"""Figures: one kind of figure a function pair, tidy numbers first, then the drawing of them.

A study's YAML names its figures and gives each a kind and options. The numbers are written as
CSV, the drawing as SVG, PDF and PNG, and title, caption and alternative text as JSON and as RST
beside the CSV; the report is made of these files alone, and Snakemake's own has the RST.

Nothing is imported here: planning reads a study's own kinds (`gradprop.figures.kind`), and would
load all that draws.
"""
