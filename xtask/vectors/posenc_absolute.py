"""Sinusoidal and learned positions."""


def run(args):
    """Every case of this file."""
