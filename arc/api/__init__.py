"""The HTTP API: `app.build_app(deps)` makes the application, `server.serve` gives it connections.

Nothing is imported here: the command line reads `config` and must not pay for the web framework.
"""
