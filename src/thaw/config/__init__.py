"""From the command line to checked settings: parsing, schema, validation and --help."""
