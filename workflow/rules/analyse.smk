rule claims:
    input:
        study="results/{study}/study.json",
        tables=lambda wildcards: study_tables(wildcards.study, ["cells", "steps", "layers"]),
        measurements=lambda wildcards: measurement_tables(wildcards.study),
        code=modules(provenance.CLAIM_MODULES),
    output:
        claims=update("reports/claims/{study}.json"),
        verdicts=update("reports/claims/{study}-verdicts.csv"),
        alarms=update("reports/claims/{study}-alarms.csv"),
    log:
        "logs/{study}/claims.log",
    conda:
        "../envs/gradprop.yaml"
    message:
        "Study {wildcards.study}: claims"
    shell:
        "gradprop claims {input.study:q} {output.claims:q} 2>&1 | tee {log:q}"


# `snakemake --cores 4 verify` prints all verdicts; it has no output, so that it always does.
rule verify:
    input:
        claims=expand("reports/claims/{study}.json", study=STUDIES),
        listed=str(Path(workflow.basedir) / "reports/reference/claims.json"),
    log:
        "logs/verify.log",
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    message:
        "Claims against those listed as supported"
    shell:
        "gradprop verify {input.claims:q} --listed {input.listed:q} 2>&1 | tee {log:q}"


# `snakemake --cores 4 study_<study>`: results, figures and claims of one study, without the report.
for name in STUDIES:

    rule:
        name:
            f"study_{name}"
        input:
            figure_files(name, ["svg", "pdf", "png"]),
            claims=f"reports/claims/{name}.json",


# One job a study: its figures share tables and the import of the drawing packages, and the job
# redraws only those whose numbers or drawing code changed.
for name, study in STUDIES.items():

    rule:
        name:
            f"figures_{name}"
        input:
            study=f"results/{name}/study.json",
            tables=study_tables(name, ["cells", "steps", "layers"]),
            measurements=measurement_tables(name),
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
            "gradprop figures {input.study:q} --processes {threads} 2>&1 | tee {log:q}"
