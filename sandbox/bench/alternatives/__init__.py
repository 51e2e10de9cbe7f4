"""The programs that deployer is compared with."""
