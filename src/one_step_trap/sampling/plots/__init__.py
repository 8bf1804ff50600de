"""The figures of chapter 3: each function takes results and returns a figure; nothing is computed here."""
