for name, study in STUDIES.items():

    # One job per study: its figures share tables and the import of the drawing packages, and the
    # job draws only those whose numbers, options or drawing code changed.
    rule:
        name:
            f"figures_{name}"
        input:
            study=definition(name, "study"),
            tables=study_tables(name),
            own=own_files(name, folders.FIGURES, folders.COMPONENTS),
        output:
            str(products.figures(REPORTS, study)),
            [
                report(
                    f"reports/figures/{name}/{figure}.svg",
                    caption=caption(name, figure),
                    category=chapter(name),
                    labels=labels(name, figure),
                )
                for figure in study.figures
            ],
            figure_files(name, ["pdf", "png"]),
            figure_data(name, ["csv", "json", "rst"]),
        log:
            f"logs/{name}/figures.log",
        group:
            "analysis"
        conda:
            "../envs/gradprop.yaml"
        resources:
            mem_mb=analysis_memory(name),
            runtime=analysis_time(name),
        params:
            folder=study_folder(name),
        message:
            f"Study {name}: figures"
        shell:
            f"gradprop figures {{input.study:q}} --folder {{params.folder:q}} {PROGRESS}"

    rule:
        name:
            f"claims_{name}"
        input:
            study=definition(name, "study"),
            tables=study_tables(name),
            own=own_files(name, folders.CLAIMS, folders.COMPONENTS),
        output:
            str(products.claims(REPORTS, study)),
            claims=f"reports/claims/{name}.json",
            diagnoses=f"reports/claims/{name}-diagnoses.csv",
            alarms=f"reports/claims/{name}-alarms.csv",
            numbers=f"reports/claims/{name}-numbers.json",
        log:
            f"logs/{name}/claims.log",
        priority: -1
        group:
            "analysis"
        conda:
            "../envs/gradprop.yaml"
        resources:
            mem_mb=analysis_memory(name),
            runtime=analysis_time(name),
        params:
            folder=study_folder(name),
        message:
            f"Study {name}: claims"
        shell:
            f"gradprop claims {{input.study:q}} --folder {{params.folder:q}} {LAST_WORDS}"

    # `snakemake --cores 4 study_<study>`: results, figures and claims of one study, without the report.
    rule:
        name:
            f"study_{name}"
        input:
            study_tables(name),
            str(products.figures(REPORTS, study)),
            str(products.claims(REPORTS, study)),


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
