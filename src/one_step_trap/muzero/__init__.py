"""Chapter 4: MuZero, learned by unrolling its model, and what the unroll length does and does not limit."""
