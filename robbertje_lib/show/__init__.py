"""What a person looks at: figures, tables, menus and the report."""
