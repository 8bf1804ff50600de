"""What every chapter stands on: checks, statistics, tabular worlds, environments, packaged files. It knows no chapter."""
