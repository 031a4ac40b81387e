"""What both figures and claims read off the tables of a study."""
