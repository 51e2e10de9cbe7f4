"""A simulated GitHub: real git repositories, signed webhooks, and the REST and GraphQL calls that deployer makes."""
