# grid.json is what the cells depend on, study.json has the figures and texts too: an edit of a
# figure does not reach the training jobs.
rule definition:
    output:
        "results/{study}/{part}.json",
    log:
        "logs/{study}/{part}.log",
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    params:
        definition=definition,
    message:
        "Study {wildcards.study}: {wildcards.part}"
    shell:
        "gradprop define {params.definition:q} {output:q} 2> {log:q}"


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
        "gradprop data {params.label:q} {output:q} 2>&1 | tee {log:q}"
