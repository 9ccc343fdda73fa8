"""Figures and HTML pages about data sets, trainings and transfers.

plots            figures, drawn by Matplotlib without a screen
page             what all pages share: jinja2 templates, embedded sounds
dataset_report, training_report, transfer_report    one page each
"""
