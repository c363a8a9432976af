"""Journeys: one notification on its way to one person, from the request to what came of it."""
