"""Templates: values from files and the command line, rendered by Jinja2 in a child process with little to break."""
