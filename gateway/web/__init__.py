"""The pages for people who work with the gateway: the playground and the dashboard."""
