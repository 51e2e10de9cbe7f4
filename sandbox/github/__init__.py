"""A GitHub to try things on: real git repositories, signed webhooks, the REST calls deployer uses."""
