"""Goals, each in a module that is called like it."""
