"""From the command line to checked settings: parsing, the schema, validation and --help."""
