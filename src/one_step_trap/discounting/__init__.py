"""Chapter 2, Discounting: how far a discounted value looks, what that costs, and what it hides."""
