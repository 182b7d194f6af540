"""The pages: server-rendered, refreshed in place, under the strictest Content-Security-Policy."""
