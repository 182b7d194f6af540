"""What works on files, without a service: the commands for analysts."""
