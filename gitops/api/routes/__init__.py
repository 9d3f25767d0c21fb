"""The routes, one module a noun. Each module has `ROUTES`: method, path without version, handler."""
