"""The entry point of the `synthc` command."""


def main() -> None:
    """Replaced below."""
