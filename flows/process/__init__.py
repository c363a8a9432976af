"""Process mining: how journeys truly go, and where they leave the declared process."""
