rule study:
    message:
        "Study {wildcards.study}: definition"
    output:
        "results/{study}/study.json",
    params:
        definition=study_definition,
    log:
        "logs/{study}/study.log",
    localrule: True
    shell:
        "gradprop study {params.definition:q} {output} 2> {log}"


rule dataset:
    message:
        "Data set {wildcards.dataset}"
    input:
        modules(("datasets", "files", "spec")),
    output:
        update("results/data/{dataset}.npz"),
    params:
        label=lambda wildcards: DATASETS[wildcards.dataset].label,
    log:
        "logs/data/{dataset}.log",
    shell:
        "gradprop data {params.label:q} {output} 2>&1 | tee {log}"
