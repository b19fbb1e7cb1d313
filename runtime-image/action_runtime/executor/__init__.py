"""The process that runs the user's code, and the zygote it is forked from."""
