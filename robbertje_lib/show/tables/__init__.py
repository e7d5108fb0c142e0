"""Results as tables for people, a module a stage."""
