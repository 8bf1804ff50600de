"""Chapter 3, Sampling divergence: what a language model does when it reads its own tokens, and what that costs."""
