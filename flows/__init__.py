"""What happens to data: the dataflows, their steps, the simulator and the command line."""
