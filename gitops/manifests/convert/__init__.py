"""From models to the API's objects, one module a kind; the catalog resolves references, the repository reads files."""
