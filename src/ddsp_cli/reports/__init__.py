"""Draw figures and write HTML pages about data sets, trainings and transfers."""
