# Trains only the cells that the tables lack; the tables are kept and added to. One rule for every
# set of measurements that shards ask for, because each is a table: the names of these shards end
# in it.
MEASURED = {tuple(grid.measured_tables(s)) for study in SHARDS for s in SHARDS[study]}

for measured in sorted({(), *MEASURED}):

    rule:
        name:
            "_".join(["train", *measured])
        input:
            grid="results/{study}/grid.json",
            data=shard_dataset,
            code=modules(provenance.NUMERIC_MODULES),
        output:
            [
                update(f"results/{{study}}/{table}/{{shard}}.parquet")
                for table in ["cells", "steps", "layers", *measured, "runs"]
            ],
        log:
            "logs/{study}/train/{shard}.log",
        wildcard_constraints:
            shard="-".join([r"[\w.]+-width\d+-\w+", *measured]),
        priority: 1  # before figures, which take a short time and less memory
        conda:
            "../envs/gradprop.yaml"
        threads: 1
        resources:
            mem_mb=4500,
        params:
            stack_size=config.get("stack_size", 40),
        message:
            "Study {wildcards.study}: training {wildcards.shard}"
        shell:
            "gradprop train {input.grid:q} {wildcards.shard:q} {input.data:q}"
            " --threads {threads} --stack-size {params.stack_size} 2>&1 | tee {log:q}"
