"""`python -m zerotrust`: the command `0trust`."""

from zerotrust.cli.main import main

if __name__ == "__main__":
    main()
