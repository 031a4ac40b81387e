# One job a study: its figures share tables and the import of the drawing packages, and the job
# redraws only those whose numbers or drawing code changed.
for name, study in STUDIES.items():

    rule:
        name:
            f"figures_{name}"
        input:
            study=f"results/{name}/study.json",
            tables=study_tables(name, ["cells", "steps", "layers"]),
            code=modules(provenance.FIGURE_MODULES),
        output:
            [
                report(
                    update(f"reports/figures/{name}/{figure}.svg"),
                    caption="../report/figure.rst",
                    category=study.title,
                    labels={"figure": options["title"]},
                )
                for figure, options in study.figures.items()
            ],
            [update(path) for path in figure_files(name, ["pdf", "png"])],
            [update(path) for path in figure_data(name, ["csv", "json"])],
        log:
            f"logs/{name}/figures.log",
        conda:
            "../envs/gradprop.yaml"
        threads: 2
        message:
            f"Study {name}: figures"
        shell:
            "gradprop figures {input.study} --processes {threads} 2>&1 | tee {log}"
