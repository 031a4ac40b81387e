rule study:
    output:
        "results/{study}/study.json",
    log:
        "logs/{study}/study.log",
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    params:
        definition=study_definition,
    message:
        "Study {wildcards.study}: definition"
    shell:
        "gradprop study {params.definition:q} {output} 2> {log}"


rule dataset:
    input:
        modules(("datasets", "files", "spec")),
    output:
        update("results/data/{dataset}.npz"),
    log:
        "logs/data/{dataset}.log",
    conda:
        "../envs/gradprop.yaml"
    params:
        label=lambda wildcards: DATASETS[wildcards.dataset].label,
    message:
        "Data set {wildcards.dataset}"
    shell:
        "gradprop data {params.label:q} {output} 2>&1 | tee {log}"
