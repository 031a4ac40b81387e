# Trains only the cells that no finished stack holds. The manifest, written last, says that the
# shard's tables are complete; the tables and the finished stacks outlive a job that fails.
rule train:
    input:
        grid=lambda wildcards: definition(wildcards.study, "grid"),
        data=shard_dataset,
    output:
        "results/{study}/manifests/{shard}.{digest}.json",
    log:
        "logs/{study}/train/{shard}.{digest}.log",
    # The long jobs come first, and the short claims last, so that all cores are busy to the end.
    priority: 1
    group:
        "training"
    conda:
        "../envs/gradprop.yaml"
    threads: 1
    resources:
        mem_mb=training_memory,
        runtime=training_time,
    params:
        data=lambda wildcards: f"results/data/{shard_data(wildcards).slug}.npz",
        stack_size=config.get("stack_size", 40),
        folder=lambda wildcards: str(STUDIES[wildcards.study].folder),
    message:
        "Study {wildcards.study}: training {wildcards.shard}"
    shell:
        "gradprop train {input.grid:q} {wildcards.shard:q} {params.data:q}"
        " --stack-size {params.stack_size}"
        f" --folder {{params.folder:q}} {TOLD}"
