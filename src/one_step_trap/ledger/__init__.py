"""What makes a claim of a page count: the catalogue, what the chapters record, their parameters."""
