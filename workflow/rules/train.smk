# Trains only the cells that the tables lack; the tables are kept and added to.
rule train:
    input:
        grid="results/{study}/grid.json",
        data=shard_dataset,
        code=modules(provenance.NUMERIC_MODULES),
    output:
        update("results/{study}/cells/{shard}.parquet"),
        update("results/{study}/steps/{shard}.parquet"),
        update("results/{study}/layers/{shard}.parquet"),
        update("results/{study}/runs/{shard}.parquet"),
    log:
        "logs/{study}/train/{shard}.log",
    priority: 1  # before figures, which take a short time and less memory
    conda:
        "../envs/gradprop.yaml"
    threads: 1
    resources:
        mem_mb=2500,
    params:
        stack_size=config.get("stack_size", 40),
    message:
        "Study {wildcards.study}: training {wildcards.shard}"
    shell:
        "gradprop train {input.grid} {wildcards.shard} {input.data}"
        " --threads {threads} --stack-size {params.stack_size} 2>&1 | tee {log}"
