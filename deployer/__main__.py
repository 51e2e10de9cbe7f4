"""`python -m deployer` is the command `deployer`."""

from deployer.cli import main

main()
