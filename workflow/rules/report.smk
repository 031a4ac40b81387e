rule report:
    input:
        studies=expand("results/{study}/study.json", study=STUDIES),
        figures=[path for study in STUDIES for path in figure_files(study, ["svg", "png"])],
        data=[path for study in STUDIES for path in figure_data(study, ["csv", "json"])],
        claims=expand("reports/claims/{study}.json", study=STUDIES),
        verdicts=expand("reports/claims/{study}-verdicts.csv", study=STUDIES),
        alarms=expand("reports/claims/{study}-alarms.csv", study=STUDIES),
        tables=[path for study in STUDIES for path in study_tables(study, ["cells", "runs"])],
        code=modules(provenance.REPORT_MODULES),
    output:
        report(update(REPORT), caption="../report/index.rst", category="Report"),
    log:
        f"logs/{Path(REPORT).stem}.log",
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    params:
        name=Path(REPORT).name,
        title=config.get("report", {}).get("title", "gradprop"),
        command=COMMAND,
    message:
        "Report {output}"
    shell:
        "gradprop report {input.studies:q} --name {params.name:q} --title {params.title:q}"
        " --command {params.command:q} 2>&1 | tee {log:q}"
