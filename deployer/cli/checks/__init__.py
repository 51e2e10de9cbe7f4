"""The checks of `deployer doctor`."""
