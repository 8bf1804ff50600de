"""Chapter 3, Sampling divergence: what a language model does when it reads its own tokens, and what that costs."""

import warnings

# transformers imports tqdm, which in a notebook asks for ipywidgets; nothing here draws such a bar.
warnings.filterwarnings("ignore", message="IProgress not found", append=True)
