"""What commands there are: light, so that `harp --help` and a mistyped word need nothing else."""

STAGES = {
    "pretrain": "train the dense network adversarially",
    "prune": "learn which weights to keep",
    "finetune": "train the weights that are left",
    "evaluate": "attack the networks of a run, or any network",
    "export": "write the network of a run, or any network, to files and check them",
    "report": "make report.html from the recorded results",
}
COMMANDS = {
    "run": "all stages in turn",
    **STAGES,
    "import": "read a network that was trained or pruned elsewhere, and write it as ours",
    "plan": "what a run would take: steps, passes, time, memory; from a short probe",
    "inspect": "what pruning would do to a network, or what a package holds",
    "arena": "methods against one another: budgets x seeds, one dense network a seed",
    "tune": "settings for each row of a grid, by successive halving on held-out images",
    "watch": "a run or an arena that another process makes, live",
    "compare": "finished runs side by side, with mean and spread over seeds",
    "bench": "how fast and how large a network is, beside other runtimes",
    "certify": "what is proved of a network's answers, by randomised smoothing or by intervals",
    "verify": "whether a package is whole and what it says it is",
    "push": "a package and its card to the Hugging Face hub",
    "list": "what can be named in a recipe",
    "completion": "a script that completes commands and flags in a shell",
}
