"""How a page looks: figures and figures to play with."""
