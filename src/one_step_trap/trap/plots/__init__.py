"""The figures of chapter 1: each function takes results and returns a figure; nothing is computed here."""
