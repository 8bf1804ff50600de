"""Chapter 1, The one-step trap: when iterating a one-step model is a mistake, and when it is not."""
