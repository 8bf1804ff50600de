"""The figures of chapter 2: each function takes results and returns a matplotlib figure; nothing is computed here."""
