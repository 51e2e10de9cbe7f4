"""What is stored of repositories, one kind of record in a module."""
