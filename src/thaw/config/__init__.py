"""Make settings of what was typed: the command line, the schema, the checks, the help."""
