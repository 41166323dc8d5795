"""What was typed, made into settings: the command line, the schema, the checks, the help."""
