"""`report.html`: what was done, what it looks like, how far it can be trusted, in one file.

blocks, tables     what a metric's part of the page is made of; plain data, cheap to import
sections           which sections of the volumes are shown
views, pictures, charts     pictures of sections and curves
page               the page itself, from report.html
"""
