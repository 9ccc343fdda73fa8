"""Figures and HTML pages about data sets, trainings and transfers.

plots    figures, drawn by Matplotlib without a screen
pages    jinja2 templates, embedded sounds; the pages of a data set, a training and a transfer
"""
