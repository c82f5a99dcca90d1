import sys


def main() -> None:
    """The command ``fastapi-users``, or the line that installs what it needs."""
    try:
        from fastapi_users.cli import cli  # noqa: PLC0415 -- an optional package
    except ModuleNotFoundError as error:
        sys.exit(str(error))
    cli()


if __name__ == "__main__":
    main()
