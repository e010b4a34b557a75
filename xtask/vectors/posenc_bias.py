"""ALiBi and T5 biases."""


def run(args):
    """Every case of this file."""
