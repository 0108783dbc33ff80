"""What runs when: settings, storage, runs, stages, Prefect flows and the `hyperrec` command."""
