"""`python -m moeret_cli`: the same program where the script is not on the path."""

from moeret_cli.app import main

main()
