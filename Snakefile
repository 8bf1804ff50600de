# The pipeline of the book. `make book` runs it (one_step_trap.book.build); by hand: snakemake --cores all
#
# Each job carries a fingerprint of the *contents* it depends on (the notebook, the modules it imports, its data) as a
# parameter. Snakemake re-runs a job when its fingerprint changes, so an edit in src/ re-runs the chapters that import it.
import sys
from pathlib import Path

from one_step_trap.book import plan, studies

ROOT = Path(workflow.basedir)
CHAPTERS = plan.chapters(ROOT)
PYTHON = sys.executable
EXECUTED = "_build/executed"


rule book:
    input:
        "_build/site.json",
        "_build/claims.json",
    default_target: True


rule execute:
    input:
        lambda wildcards: [str(path.relative_to(ROOT)) for path in plan.inputs(ROOT, wildcards.chapter)],
    output:
        f"{EXECUTED}/{{chapter}}.ipynb",
    log:
        "_build/logs/{chapter}.log",
    benchmark:
        "_build/benchmarks/{chapter}.tsv"
    params:
        digest=lambda wildcards: plan.digest(ROOT, wildcards.chapter),
    shell:
        "{PYTHON:q} -m one_step_trap.book.execute {input[0]:q} {output:q} --log {log:q}"


rule ledger:
    input:
        expand(f"{EXECUTED}/{{chapter}}.ipynb", chapter=CHAPTERS),
    output:
        "_build/claims.json",
    params:
        digest=plan.digest_of(ROOT, [ROOT / "src/one_step_trap/ledger/claims.toml", ROOT / "src/one_step_trap/ledger/claims.py"]),
    shell:
        "{PYTHON:q} -m one_step_trap.book.collect --output {output:q} {input:q}"


rule site:
    input:
        "_build/claims.json",
        expand(f"{EXECUTED}/{{chapter}}.ipynb", chapter=CHAPTERS),
        [str(path.relative_to(ROOT)) for path in plan.page_sources(ROOT)],
    output:
        "_build/site.json",
    log:
        "_build/logs/site.log",
    params:
        digest=plan.digest_of(ROOT, plan.page_sources(ROOT)),
    shell:
        "{PYTHON:q} -m one_step_trap.book.site --executed {EXECUTED} --benchmarks _build/benchmarks"
        " --target _build/html --stamp {output:q} --log {log:q}"


# The long studies. Never part of `make book`: their results are kept in data/ with their provenance.
# One job is one independent part of a study, so that a cluster's executor can take them.
rule sweep_part:
    output:
        "_build/sweeps/{study}/{part}.csv",
        "_build/sweeps/{study}/{part}.json",
    wildcard_constraints:
        study=r"\d\d-[^/]+/[^/]+",
        part=r"\d+",
    params:
        digest=lambda wildcards: plan.digest_of(ROOT, studies.sources(ROOT, wildcards.study)),
    shell:
        "{PYTHON:q} -m one_step_trap.book.sweeps part {wildcards.study:q} {wildcards.part} {output:q}"


rule sweep_table:
    input:
        lambda wildcards: expand(
            "_build/sweeps/{study}/{part}.csv", study=wildcards.study, part=range(studies.parts(wildcards.study))
        ),
    output:
        touch("_build/sweeps/{study}.done"),
    wildcard_constraints:
        study=r"\d\d-[^/]+/[^/]+",
    shell:
        "{PYTHON:q} -m one_step_trap.book.sweeps table {wildcards.study:q} {input:q}"


rule sweep:
    input:
        expand("_build/sweeps/{study}.done", study=config["study"].split(",") if "study" in config else list(studies.STUDIES)),
