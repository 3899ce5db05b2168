"""The editor behind HTTP: sessions, jobs, workers, and the page (docs/service.md).

The server's own process answers requests and imports no torch; one worker process for each device holds
the models.  A worker that dies takes its job with it and nothing else.
"""
