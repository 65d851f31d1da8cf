"""One translation per entrance: event -> Request, Response -> reply. No routes, no rules.

`aws`, `cloudbase` and `wsgi` know a platform each, `direct` knows calls that are not HTTP;
`paths` and `startup` are for whoever wires them to an app. Nobody here knows what a route does.
"""
