# grid.<digest>.json is what the cells depend on, study.<digest>.json has the figures and texts too:
# an edit of a figure does not reach the training jobs. The study's file is `ancient` because the
# digest says whether what it holds was changed.
rule definition:
    input:
        ancient(lambda wildcards: str(STUDIES[wildcards.study].folder / folders.STUDY)),
    output:
        "results/{study}/{part}.{digest}.json",
    log:
        "logs/{study}/{part}.{digest}.log",
    priority: 2
    localrule: True
    conda:
        "../envs/gradprop.yaml"
    params:
        seeds=SEEDS,
    message:
        "Study {wildcards.study}: {wildcards.part}"
    shell:
        f"gradprop define {{input:q}} {{output:q}} --seeds {{params.seeds}} {TOLD}"


rule dataset:
    output:
        "results/data/manifests/{dataset}.{digest}.json",
    log:
        "logs/data/{dataset}.{digest}.log",
    priority: 2
    group:
        "datasets"
    conda:
        "../envs/gradprop.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 10 * attempt,
    params:
        label=lambda wildcards: DATASETS[wildcards.dataset].label,
        file="results/data/{dataset}.npz",
        own=dataset_folder,
    message:
        "Data set {wildcards.dataset}"
    shell:
        f"gradprop data {{params.label:q}} {{params.file:q}} {{params.own}} {TOLD}"
