rule report:
    input:
        studies=[definition(name, "study") for name in STUDIES],
        tables=[path for name in STUDIES for path in study_tables(name)],
        figures=[str(products.figures(REPORTS, study)) for study in STUDIES.values()],
        claims=[str(products.claims(REPORTS, study)) for study in STUDIES.values()],
        own=[own_files(name, *folders.OF_CHAPTER) for name in STUDIES],
    output:
        str(REPORT_MANIFEST),
        report(REPORT, caption="../report/index.rst", category="Report"),
    log:
        f"logs/{Path(REPORT).stem}.log",
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    params:
        name=Path(REPORT).name,
        title=TITLE,
        command=COMMAND,
        folders=[str(study.folder) for study in STUDIES.values()],
    message:
        f"Report {REPORT}"
    shell:
        "gradprop report {input.studies:q} --name {params.name:q} --title {params.title:q}"
        f" --command {{params.command:q}} --folders {{params.folders:q}} {LAST_WORDS}"
