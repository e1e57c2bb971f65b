"""The entry point of the command line, also as `python -m crossatnet`."""

import os
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being loaded ends it as quietly as later.

    Where the locale is not UTF-8, Python starts again in its UTF-8 mode: names of files could not be stored otherwise.
    """
    if sys.getfilesystemencoding() != "utf-8":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "crossatnet", *sys.argv[1:]],
            {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"},
        )
    try:
        from crossatnet.cli.main import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
