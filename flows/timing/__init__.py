"""Delivery times: from requests to decisions, and from what came of them to better ones."""
