rule report:
    input:
        studies=[definition(name, "study") for name in STUDIES],
        tables=[path for name in STUDIES for path in study_tables(name)],
        figures=[str(products.figures(REPORTS, study)) for study in STUDIES.values()],
        claims=[str(products.claims(REPORTS, study)) for study in STUDIES.values()],
        own=[own_files(name, *folders.OF_CHAPTER) for name in STUDIES],
    output:
        str(REPORT_MANIFEST),
        report(
            REPORT,
            caption="../report/index.rst",
            category=chapter(),
            labels={"result": "Everything on one page"},
        ),
        [
            report(
                f"{TABLES}/{name}-{table}.html",
                caption=f"../report/{table}.rst",
                category=chapter(name),
                labels={"result": label},
            )
            for name in STUDIES
            for table, label in (("claims", "Claims"), ("results", "Final results"))
        ],
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
