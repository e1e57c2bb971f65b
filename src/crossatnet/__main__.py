"""`python -m crossatnet`: the command line."""

from crossatnet.cli.main import main

if __name__ == "__main__":
    main()
