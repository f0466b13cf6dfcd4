"""What several commands use: options and the `command` decorator, values made from options, printing."""
